"""`pexdock completion`: what a shell reads to complete the command."""

from __future__ import annotations

import click

_VARIABLE = "_PEXDOCK_COMPLETE"
"""The variable that click looks at when a shell asks."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print what has SHELL complete commands, options and names of models.

    \b
    bash, in ~/.bashrc:               eval "$(pexdock completion bash)"
    zsh, in ~/.zshrc:                 eval "$(pexdock completion zsh)"
    fish, in ~/.config/fish/config.fish:  pexdock completion fish | source
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(root.command, {}, root.info_name or "pexdock", _VARIABLE).source())
