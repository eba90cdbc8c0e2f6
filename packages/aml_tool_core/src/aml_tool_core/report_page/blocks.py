"""What a page is made of. A page is a title, a verdict and sections; the template knows nothing but these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from aml_tool_core.report_page.charts import Chart
from aml_tool_core.report_page.figures import Figure


class Tone(Enum):
    """How a statement is meant. A page says it in words too: colour alone tells a colour-blind reader nothing."""

    GOOD = "good"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval (None: the sample cannot give that side) and a remark."""

    figure: Figure
    low: Figure | None = None
    high: Figure | None = None
    has_interval: bool = False
    remark: str = ""


Cell = Figure | Measured | str


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    tones: Sequence[Tone] = ()  # of the rows, where they have one

    def tone(self, row: int) -> str:
        """The tone of a row."""
        return (self.tones[row] if row < len(self.tones) else Tone.PLAIN).value


@dataclass(frozen=True)
class Tile:
    """One of the few figures that matter."""

    label: str
    cell: Measured | str


@dataclass(frozen=True)
class Drawing:
    """A chart with the table that says the same in text."""

    chart: Chart
    table: Table


@dataclass(frozen=True)
class Text:
    """A text to be copied as it stands: a file, a command."""

    caption: str
    text: str


@dataclass(frozen=True)
class Banner:
    """What is to be known first: a headline, its tone, and the reasons."""

    tone: Tone
    headline: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading. `absent` says why there is nothing in it, or why something is missing."""

    key: str  # an HTML id
    title: str
    intro: str = ""
    banners: Sequence[Banner] = ()
    tiles: Sequence[Tile] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    texts: Sequence[Text] = ()
    absent: Sequence[str] = field(default=())
