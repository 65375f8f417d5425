"""Tables for terminals and files of any width, whose words are never cut. Imports nothing heavy."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

BORDER = 3  # columns of the screen that a column's border and padding take


def tables(
    heads: Sequence[str],  # of the columns; wrapped at blanks and before brackets alone
    rows: Sequence[Sequence[str]],
    width: int,  # of the screen
    turns: bool = False,  # whether the table may be transposed
    wraps: Sequence[int] = (),  # columns that may be wrapped at their blanks
    left: Sequence[int] = (0,),  # columns of words, not of numbers
) -> list[Any]:
    """Objects for rich to print: one table where it fits; else transposed, or in parts; else a paragraph a row."""
    cells = [list(row) for row in rows]
    narrow = [[row[0].replace("[", "\n  [", 1), *row[1:]] for row in cells]  # fid, and below it [inception]
    turned = list(zip(heads, *cells, strict=True))
    across = range(1, len(turned[0]))
    ways: list[Callable[[], list[Any]]] = [
        lambda: _parts(heads, cells, width, (), left, 1),
        lambda: _parts(heads, narrow, width, (), left, 1),
        lambda: _parts(heads, cells, width, wraps, left, 1),
        lambda: _parts(heads, narrow, width, wraps, left, 1),
    ]
    if turns:
        ways.append(lambda: _parts(turned[0], turned[1:], width, across, (0,), 1))
        pieces = [
            lambda: _parts(turned[0], turned[1:], width, across, (0,)),
            lambda: _parts(heads, narrow, width, wraps, left),
        ]
        ways += pieces if len(heads) > len(rows) else pieces[::-1]
    return next((found for way in ways if (found := way())), None) or [_paragraphs(heads, cells, width)]


def _parts(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    wraps: Sequence[int],
    left: Sequence[int],
    most: int | None = None,  # tables
) -> list[Any]:
    """Tables of as many columns as fit, each with the first one; none where one does not fit, or `most` are few."""
    columns = [list(column) for column in zip(heads, *rows, strict=True)]
    found: list[list[int]] = []
    for i in range(1, len(columns)):
        if found and _fits([columns[k] for k in (0, *found[-1], i)], width, [k in wraps for k in (0, *found[-1], i)]):
            found[-1].append(i)
        elif _fits([columns[0], columns[i]], width, [0 in wraps, i in wraps]):
            found.append([i])
        else:
            return []
    if most is not None and len(found) > most:
        return []
    return [
        _table(
            [columns[k] for k in (0, *part)], width, [k in wraps for k in (0, *part)], [k in left for k in (0, *part)]
        )
        for part in found
    ]


def _needs(cells: Sequence[str], wraps: bool) -> tuple[int, int]:
    """How narrow a column can be, and how wide it is at most. The first cell is its head."""
    words = [word for cell in (cells if wraps else cells[:1]) for word in _breakable(cell).split()]
    lines = [line for cell in cells[1:] for line in cell.split("\n")]
    most = max(map(len, [cells[0], *lines]))
    return max(map(len, words if wraps else [*words, *lines]), default=0), most


def _breakable(head: str) -> str:
    return head.replace("[", " [")


def _fits(columns: Sequence[Sequence[str]], width: int, wraps: Sequence[bool]) -> bool:
    needed = [max(1, _needs(*column)[0]) for column in zip(columns, wraps, strict=True)]
    return sum(needed) + BORDER * len(columns) + 1 <= width


def _table(columns: Sequence[Sequence[str]], width: int, wraps: Sequence[bool], left: Sequence[bool]) -> Any:
    from rich.table import Table
    from rich.text import Text

    sizes = [_needs(*column) for column in zip(columns, wraps, strict=True)]
    room = width - BORDER * len(columns) - 1 - sum(max(1, least) for least, _ in sizes)
    table = Table()
    for (head, *_), (least, most), words in zip(columns, sizes, left, strict=True):
        more = min(room, most - least)
        room -= more
        shown = head if len(head) <= least + more else _breakable(head)
        table.add_column(Text(shown), justify="left" if words else "right", width=max(1, least + more), overflow="fold")
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(Text, row))
    return table


def _paragraphs(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Any:
    """Each row as its first cell on a line, and the other cells below it with their heads."""
    from rich.text import Text

    lines = []
    for row in rows:
        lines += _wrapped(f"{heads[0]} {row[0]}" if row[0].isdigit() else row[0], "", width)
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if cell:
                lines += _wrapped(f"{head} {cell}".strip(), "  ", width)
    return Text("\n".join(lines))


def _wrapped(line: str, indent: str, width: int) -> list[str]:
    """Broken at blanks only."""
    return textwrap.wrap(
        line, max(width, 1), initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def show(console: Any, found: Sequence[Any]) -> None:
    """Print them; long words of a paragraph are not cut."""
    for each in found:
        console.print(each, soft_wrap=not hasattr(each, "columns"))
