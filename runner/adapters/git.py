"""Run the installed git. Only this module does, and only asks it about commits and objects.

A checkout may be a stranger's: its configuration, attributes and hooks can name programs. So git
never reads the files of the work tree (we read and hash them ourselves), everything that could run
a program is switched off, and the repository is that of the working directory, since a folder of
plans can look like a repository too.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from runner.errors import UsageError
from runner.model import frozen
from runner.spec.files import FileRefused, read_given

SECONDS = 30.0  # for a call that only uses this machine
_LOOK = 4.0  # for one that reads no history: its configuration may name a pipe (include.path)

# Files of a repository that git reads before it answers anything.
_CONTROLS = (
    *("HEAD", "config", "config.worktree", "packed-refs", "shallow", "commondir", "gitdir"),
    *("index", "info/exclude", "info/attributes", "info/grafts", "objects/info/alternates"),
)
_LONGEST = 8192  # bytes of a path
# Where CI has its checkout, for a command that runs in another folder.
_CHECKOUTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")

# The environment that git gets: its location, and that of the user's own configuration.
_VARIABLES = (
    "PATH",
    "HOME",
    "XDG_CONFIG_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "SUDO_UID",
    "TMPDIR",
)
_ALWAYS = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": f"{os.devnull}/none",
    "GIT_ATTR_NOSYSTEM": "1",
}
# Values on the command line override those of all files and their includes.
OFF = (
    "safe.bareRepository=explicit",
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    f"core.attributesFile={os.devnull}",
    "core.pager=cat",
    "core.alternateRefsCommand=true",
    "core.gitProxy=",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "diff.external=",
)
# Nothing is fetched or signed while a checkout is reviewed.
_OFFLINE = (
    "protocol.allow=never",
    "core.sshCommand=false",
    "core.askPass=",
    "credential.helper=",
    "gpg.program=false",
    "gpg.ssh.program=false",
    "gpg.x509.program=false",
)


class GitFailed(UsageError):
    """git reports an error; its advice is the hint. `reason`: git's own message, if any."""

    def __init__(self, message: str, *, hint: str | None = None, reason: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@frozen
class Git:
    """How git is called: its options, and its whole environment."""

    options: tuple[str, ...]
    variables: Mapping[str, str]

    def __call__(self, *arguments: str, seconds: float = SECONDS) -> str:
        """Run git and return its output; names of files that are not UTF-8 are escaped as in
        Python.

        Raises `GitFailed`. git never asks for a password: there may be nobody to answer.
        """
        try:
            with self.start(*arguments) as process:
                try:
                    out, stderr = process.communicate(timeout=seconds)
                except BaseException:
                    # Programs started by git hold its pipes, so end them all.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    raise
        except subprocess.TimeoutExpired:
            message = f"git {arguments[0]}: no answer within {seconds:g}s"
            pipe = "check whether include.path in git's configuration names a pipe"
            raise GitFailed(message, hint=pipe if seconds <= _LOOK else None) from None
        if process.returncode:
            raise failed(stderr)
        return out.decode(errors="surrogateescape")

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start git in a session of its own, so that no program it starts can ask at a terminal."""
        command = ["git", "--no-pager", *self.options, *arguments]
        try:
            return subprocess.Popen(  # noqa: S603 - no shell
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self.variables),
                start_new_session=True,
            )
        except FileNotFoundError:
            raise UsageError("git is not installed, but a git revision is given") from None
        except (OSError, ValueError) as error:  # an argument is too long, or has a zero byte in it
            raise GitFailed(f"git cannot be started: {error}", reason=str(error)) from None


def failed(stderr: bytes) -> GitFailed:
    """Find the first line that says why, or the last; what follows is advice, kept whole."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    starts = ("fatal: ", "error: ")
    first = next((n for n, line in enumerate(lines) if line.startswith(starts)), len(lines) - 1)
    if not lines:
        return GitFailed("git: it failed")
    advice = " ".join(lines[first + 1 :]) or None
    return GitFailed(f"git: {lines[first]}", hint=advice, reason=lines[first])


def configured(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in ("-c", value))


def variables_of(environ: Mapping[str, str], more: Sequence[str] = ()) -> dict[str, str]:
    """Return the variables that git gets; no key is among them unless `more` names it."""
    named = (*_VARIABLES, *more)
    return {name: environ[name] for name in named if name in environ} | _ALWAYS


@frozen
class Repository:
    """`top` is the root of the work tree, `folder` the git directory; `hash` names the digest of
    objects."""

    top: Path
    folder: Path
    git: Git
    hash: str
    shallow: bool

    @property
    def is_partial(self) -> bool:
        """Whether it was cloned with --filter, so that missing objects are known to be
        elsewhere."""
        return any((self.folder / "objects/pack").glob("*.promisor"))

    def below(self, path: str | Path) -> PurePosixPath:
        """Return the path relative to the root; if the file is a link, it is not followed.

        Raises `UsageError` for a path outside.
        """
        place = place_of(path)
        if not place.is_relative_to(self.top):
            raise UsageError(f"{path} is not in the repository {self.top}")
        return PurePosixPath(place.relative_to(self.top))

    def commit_of(self, revision: str) -> str:
        """Resolve a revision. Raises `UsageError` if it does not exist."""
        words = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        try:
            return self.git(*words, seconds=_LOOK).strip()
        except GitFailed as error:
            if error.reason:  # git says more than that it does not exist
                raise
            hint = "name a branch, a tag or a commit; OLD of `diff` may also be a plan file"
            if self.shallow:
                hint = f"this clone is shallow: {WHOLE}"
            message = f"there is no file and no git revision `{revision}`"
            raise UsageError(message, hint=hint) from None

    def parted(self, revision: str, branch: str = "HEAD") -> str:
        """Return the commit at which the branch left the revision, so that later commits there do
        not count as its own. Raises `UsageError` if they have no common commit."""
        commits = self.commit_of(revision), self.commit_of(branch)
        try:
            return self.git("merge-base", *commits).strip()
        except GitFailed as error:
            if error.reason:
                raise
            message = f"`{revision}` and `{branch}` have no commit in common"
            where = " in this shallow clone" if self.shallow else ""
            raise UsageError(message + where, hint=WHOLE) from None


WHOLE = "fetch the whole history: `fetch-depth: 0` of actions/checkout, or `git fetch --unshallow`"


def repository_here(environ: Mapping[str, str]) -> Repository:
    """Find the repository of the working directory, else the one that CI names.

    Only `.git` makes a repository, since git lets nobody commit one. Raises `UsageError`.
    """
    named = [Path(environ[name]) for name in _CHECKOUTS if environ.get(name)]
    for place in (Path.cwd(), *named):
        folder = place.resolve()
        for top in (folder, *folder.parents):
            if os.path.lexists(top / ".git"):
                return _opened(top, environ)
    message = f"{Path.cwd()} is not in a git repository, but a git revision is given"
    raise UsageError(message, hint="run the command in the checkout")


def _opened(top: Path, environ: Mapping[str, str]) -> Repository:
    """Let git find the repository once, since it then also checks who owns it."""
    _refuse_odd(top / ".git")
    variables = variables_of(environ) | {"GIT_ALLOW_PROTOCOL": ""}
    options = configured((*OFF, *_OFFLINE))
    look = Git(("-C", str(top), *options), variables | {"GIT_CEILING_DIRECTORIES": str(top.parent)})
    folder = look("rev-parse", "--absolute-git-dir", seconds=_LOOK).removesuffix("\n")
    git = Git((f"--git-dir={folder}", f"--work-tree={top}", *options), variables)
    asked = ("--show-object-format", "--is-shallow-repository", "--git-common-dir")
    algorithm, shallow, common = (
        git("rev-parse", *asked, seconds=_LOOK).removesuffix("\n").split("\n", 2)
    )
    return Repository(top, top / common, git, algorithm, shallow == "true")


def _refuse_odd(place: Path) -> None:
    """Refuse pipes, on which git would wait for ever. Raises `GitFailed`."""
    folder = place
    if not place.is_dir():  # a linked work tree or a submodule: the file names the folder
        folder = place.parent / _path_in(place).removeprefix("gitdir:").strip()
    _refuse_odd_within(folder)
    if (folder / "commondir").exists():
        _refuse_odd_within(folder / _path_in(folder / "commondir"))


def _refuse_odd_within(folder: Path) -> None:
    for name in _CONTROLS:
        _refuse_no_file(folder / name)
    folders = [str(folder / name) for name in ("refs", "objects")]
    for name in folders:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(name) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    _refuse_no_file(Path(entry.path))


def _path_in(file: Path) -> str:
    """Read a path from a file; empty if the file is unreadable, which git reports itself."""
    _refuse_no_file(file)
    try:
        return read_given(file, limit=_LONGEST).decode(errors="surrogateescape").strip()
    except FileRefused:
        return ""


def _refuse_no_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # missing files are reported by git itself
        return
    if not stat.S_ISREG(mode):
        raise GitFailed(
            f"{path} is not a regular file", hint="check that git has made this checkout"
        )


def place_of(path: str | Path) -> Path:
    """Locate a file: its folder is resolved, but the file itself is not followed if it is a
    link."""
    named = Path.cwd() / path
    return named.resolve() if named.name == ".." else named.parent.resolve() / named.name
