"""What a stranger's repository may contain: programs, and every key of git that makes one run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

HOOKS = ("post-checkout", "post-index-change", "pre-auto-gc", "reference-transaction",
         "fsmonitor-watchman", "pre-commit", "post-merge", "pre-push")  # fmt: skip

# Every key of git's configuration whose value is a program, or makes one run.
KEYS = (
    "alias.cat-file",
    "alias.merge-base",
    "alias.rev-parse",
    "browser.evil.cmd",
    "core.alternateRefsCommand",
    "core.askPass",
    "core.editor",
    "core.fsmonitor",
    "core.gitProxy",
    "core.pager",
    "core.sshCommand",
    "credential.helper",
    "credential.https://example.com.helper",
    "diff.evil.command",
    "diff.evil.textconv",
    "diff.external",
    "diff.tool",
    "difftool.evil.cmd",
    "filter.evil.clean",
    "filter.evil.process",
    "filter.evil.smudge",
    "filter.lfs.process",
    "gpg.openpgp.program",
    "gpg.program",
    "gpg.ssh.defaultKeyCommand",
    "gpg.ssh.program",
    "gpg.x509.program",
    "hook.evil.command",
    "imap.tunnel",
    "instaweb.httpd",
    "interactive.diffFilter",
    "man.evil.cmd",
    "merge.evil.driver",
    "mergetool.evil.cmd",
    "pager.cat-file",
    "pager.diff",
    "pager.merge-base",
    "pager.rev-parse",
    "receive.procReceiveRefs",
    "remote.origin.receivepack",
    "remote.origin.uploadpack",
    "sendemail.toCmd",
    "sequence.editor",
    "submodule.evil.update",
    "tar.tgz.command",
    "trailer.evil.cmd",
    "trailer.evil.command",
    "uploadpack.packObjectsHook",
    "web.browser",
)
# Every other key that directs git elsewhere.
LEADING = {
    "core.attributesFile": "{evil}.attributes",
    "core.bare": "true",
    "core.hooksPath": "{hooks}",
    "core.worktree": "/",
    "extensions.partialClone": "origin",
    "include.path": "{evil}.config",
    "log.showSignature": "true",
    "remote.origin.promisor": "true",
    "remote.origin.url": "ext::{evil}",
    "remote.origin.vcs": "ext",
    "url.ext::{evil}.insteadOf": "https://",
}


class Evil:
    """A program that leaves a mark, and ways to get it run."""

    def __init__(self, folder: Path) -> None:
        self.program, self.mark = folder / "evil", folder / "mark"
        folder.mkdir()
        self.program.write_text(f"#!/bin/sh\ntouch {self.mark}\nexit 1\n")
        self.program.chmod(0o755)
        self.hooks = folder / "hooks"
        self.hooks.mkdir()
        for name in HOOKS:
            shutil.copy(self.program, self.hooks / name)
        attributes = "* filter=evil diff=evil merge=evil\n"
        Path(f"{self.program}.attributes").write_text(attributes)
        Path(f"{self.program}.config").write_text(f"[core]\n\tfsmonitor = {self.program}\n")

    @property
    def ran(self) -> bool:
        return self.mark.exists()

    def value(self, key: str) -> str:
        if key.startswith(("alias.", "submodule.")):
            return f"!{self.program}"
        template = LEADING.get(key, "{evil}")
        return template.format(evil=self.program, hooks=self.hooks)

    def plant(self, config: Path, keys: Sequence[str]) -> None:
        """Append the keys, so that they override what is there."""
        with config.open("a", encoding="utf-8") as file:
            for key in keys:
                section, _, name = key.format(evil=self.program).rpartition(".")
                first, _, inner = section.partition(".")
                file.write(f'[{first} "{inner}"]\n' if inner else f"[{first}]\n")
                file.write(f"\t{name} = {self.value(key)}\n")
