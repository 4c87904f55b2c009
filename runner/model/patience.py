"""How long to retry what does not answer: limited by time, never by a number of tries."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 10.0  # seconds before the run's first request, and for commands that only read
GIVE_UP_AFTER = 600.0  # seconds after it
LONGEST_WAIT = 10.0  # seconds between two tries, unless a server asks for more
ASKED = 60.0  # seconds that an answering server may ask for, even beyond the patience
_SHORTEST = 0.4


@dataclass(slots=True)
class Patience:
    """One instance is shared by all connections of a run; the first request sets `begun`."""

    give_up_after: float = GIVE_UP_AFTER
    begun: bool = False

    @classmethod
    def of(cls, *given: float | None, begun: bool) -> Patience:
        """Use the first of these that is given."""
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
        """Return the seconds until the next try, or None to give up.

        `tries` have failed over `spent` seconds. `jitter` is between 0 and 1; `asked` is the
        Retry-After; `most` caps the patience. The last try comes when the time is up.
        """
        left = (self.seconds if most is None else min(self.seconds, most)) - spent
        if left <= 0:
            return None
        if asked is not None:
            return asked if asked <= max(left, ASKED) else None
        backoff = min(LONGEST_WAIT, _SHORTEST * 2.0 ** min(tries - 1, 10))
        return min(left, backoff * (0.5 + 0.5 * jitter))
