"""Fill the command line's reference with what the commands say of themselves."""

from __future__ import annotations

import os
from typing import Any

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark by the help of every command."""
    return markdown.replace(MARK, _commands()) if MARK in markdown else markdown


def _commands() -> str:
    os.environ["COLUMNS"] = "100"
    from voxloop.cli.main import COMMANDS, build_parser

    choices = next(a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    return "\n\n".join(f"## voxloop {name}\n\n```text\n{choices[name].format_help()}```" for name in COMMANDS)
