"""The options of `editproof serve`: imports no torch."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.options import at_least

HostOption = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: others on the network, too.")]
PortOption = Annotated[int, typer.Option(parser=at_least(1, highest=65_535), metavar="N", help="Port.")]
KeysOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="API keys, which `editproof serve-key` writes.", show_default=False)
]
NoKeysOption = Annotated[bool, typer.Option("--no-keys", help="Others may ask without a key.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(1, highest=1024), metavar="N", help="Processes; one per core if not given.", show_default=False
    ),
]
DevicesOption = Annotated[
    list[str] | None,
    typer.Option(help="cpu, cuda:0 ...; repeat to spread the processes over several.", show_default=False),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(1, highest=64),
        metavar="N",
        show_default=False,
        help="Photos in line that a process takes together; 1 on a CPU and 8 on a GPU if not given.",
    ),
]
QueueOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(1, highest=100_000),
        metavar="N",
        show_default=False,
        help="Photos that may stand in line; 4 for each process if not given. More are answered 503.",
    ),
]
TimeoutOption = Annotated[
    float, typer.Option(parser=at_least(1, float), metavar="SECONDS", help="For one photo, the line included.")
]
UploadOption = Annotated[
    float, typer.Option(parser=at_least(1, float), metavar="SECONDS", help="For the upload of one photo.")
]
SizeOption = Annotated[float, typer.Option(parser=at_least(0, float), metavar="MB", help="Of one request's body.")]
RateOption = Annotated[
    float | None,
    typer.Option(
        parser=at_least(1, float),
        metavar="N",
        show_default=False,
        help="Requests a minute for each key (without keys, each address); no limit if not given.",
    ),
]
DrainOption = Annotated[
    float,
    typer.Option(
        parser=at_least(0, float),
        metavar="SECONDS",
        help="After SIGTERM: not ready any more, still answering, until the port closes.",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A method's own setting.", show_default=False),
]
