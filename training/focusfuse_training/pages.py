"""The evaluation as one page and as one Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .figures import Figure
from .tables import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
figure { margin: 1.5em 0; }
figure img { max-width: 100%; }
figcaption { color: #555; }
code { background: #f3f3f3; padding: .1em .3em; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Report:
    """All that is said of one evaluation."""

    title: str
    head: tuple[str, ...]
    """Sentences: data, split, seeds, metric, models."""
    command: str
    sections: tuple[tuple[str, tuple[Table, ...], tuple[Figure, ...]], ...]
    """Condition, tables, figures."""

    def markdown(self) -> str:
        """Return it as Markdown; figures are files beside it."""
        lines = [f"# {self.title}", "", *(f"- {sentence}" for sentence in self.head)]
        lines += [f"- Command: `{self.command}`", ""]
        for name, tables, figures in self.sections:
            lines += [f"## {name}", "", *(table.markdown() for table in tables)]
            for figure in figures:
                lines += [f"![{figure.caption}]({figure.name})", "", f"{figure.caption}.", ""]
        return "\n".join(lines)

    def html(self) -> str:
        """Return it as one page that needs no other file."""
        body = [f"<h1>{escape(self.title)}</h1>", "<ul>"]
        body += [f"<li>{escape(sentence)}</li>" for sentence in self.head]
        body += [f"<li>Command: <code>{escape(self.command)}</code></li>", "</ul>"]
        for name, tables, figures in self.sections:
            body.append(f"<h2>{escape(name)}</h2>")
            body += [_table(table) for table in tables]
            body += [_figure(figure) for figure in figures]
        return (
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n"
            + "\n".join(body)
            + "\n</html>\n"
        )


def _table(table: Table) -> str:
    head = _cells("th", table.columns)
    rows: Sequence[str] = [f"<tr>{_cells('td', row)}</tr>" for row in table.rows]
    return (
        f'<h3>{escape(table.title)}</h3>\n<div class="wide"><table>\n<tr>{head}</tr>\n'
        + "\n".join(rows)
        + "\n</table></div>"
    )


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _figure(figure: Figure) -> str:
    caption = escape(figure.caption)
    return (
        f'<figure><img src="{figure.data_uri}" alt="{caption}">'
        f"<figcaption>{caption}.</figcaption></figure>"
    )
