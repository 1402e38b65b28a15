"""`pexdock completion`: the completion script of a shell."""

from __future__ import annotations

import click

_VARIABLE = "_PEXDOCK_COMPLETE"
"""The variable by which click recognizes a completion request of a shell."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the completion script for SHELL.

    It completes commands, options and names of models.

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
