"""How long what does not answer is asked again: by time, and never by a number of tries."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 10.0  # seconds, until the run has made its first request, and in commands that only ask
GIVE_UP_AFTER = 600.0  # seconds, from then on
LONGEST_WAIT = 10.0  # seconds between two tries, unless a server asks for more
ASKED = 60.0  # seconds that a server which answers may ask for, however short the patience
_SHORTEST = 0.4


@dataclass(slots=True)
class Patience:
    """One value for all that a run talks to: `begun` is set with its first request."""

    give_up_after: float = GIVE_UP_AFTER
    begun: bool = False

    @classmethod
    def of(cls, *given: float | None, begun: bool) -> Patience:
        """For as long as the first of these says that says anything."""
        known = next((one for one in given if one is not None), GIVE_UP_AFTER)
        return cls(known, begun)

    @property
    def seconds(self) -> float:
        return self.give_up_after if self.begun else min(FIRST, self.give_up_after)

    def wait(
        self,
        tries: int,
        spent: float,
        jitter: float,
        asked: float | None = None,
        most: float | None = None,
    ) -> float | None:
        """Seconds until the next try, after so many in vain over `spent` seconds; None to give up.

        `jitter` is between 0 and 1; `asked` is what a Retry-After says; `most` bounds it all. The
        last try is made when the time is up.
        """
        left = (self.seconds if most is None else min(self.seconds, most)) - spent
        if left <= 0:
            return None
        if asked is not None:
            return asked if asked <= max(left, ASKED) else None
        backoff = min(LONGEST_WAIT, _SHORTEST * 2.0 ** min(tries - 1, 10))
        return min(left, backoff * (0.5 + 0.5 * jitter))
