"""`backfill skill`."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.main import COMMANDS, cli
from runner.output.text import visible

_PAGES = {
    "plan": "Plan files",
    "catalog": "Catalogs",
    "project": "Project files",
}


@click.command(
    "skill",
    epilog="\b\nExamples:\n  backfill skill --install .claude/skills\n  backfill skill | less",
)
@click.option(
    "--install",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write DIR/backfill/SKILL.md, and the references beside it.",
)
def skill_command(folder: str | None) -> None:
    """Print a skill for agents: how to plan, run, watch and prove backfills with these commands.

    With --install, write it to a folder of skills, with references of every command and key beside
    it. A skill that an earlier version has installed there is updated.
    """
    from runner.adapters.files import make_folder, write_file

    if folder is None:
        click.echo(_skill(), nl=False)
        return
    place = Path(folder) / "backfill"
    make_folder(place / "reference")
    write_file(place / "SKILL.md", _skill())
    for name, text in _references().items():
        write_file(place / "reference" / f"{name}.md", text)
    click.echo(f"wrote {visible(str(place / 'SKILL.md'))}, and its references beside it")


def _skill() -> str:
    from importlib.resources import files

    return (files("runner") / "output" / "templates" / "skill.md").read_text(encoding="utf-8")


def _references() -> dict[str, str]:
    import json

    from runner.output.reference import schema_reference
    from runner.spec.schema import schema_text

    found = {"commands": f"# Commands\n\n{help_of_all()}\n"}
    for name, title in _PAGES.items():
        schema = json.loads(schema_text(f"{name}.v1"))
        found[name] = f"# {title}\n\n{schema_reference(schema)}\n"
    return found


def help_of_all() -> str:
    """Return the help of each command in Markdown, as a terminal shows it."""
    parent = click.Context(cli, info_name="backfill", **cli.context_settings)
    parts = []
    for name in COMMANDS:
        command = cli.get_command(parent, name)
        assert command is not None  # noqa: S101 - the group knows its own
        context = click.Context(
            command, parent=parent, info_name=name, terminal_width=100, max_content_width=100
        )
        parts.append(f"## backfill {name}\n\n```text\n{command.get_help(context).rstrip()}\n```")
    return "\n\n".join(parts)
