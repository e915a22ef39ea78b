"""Names that a stranger might give a checkpoint, and a report that uses one everywhere."""

from __future__ import annotations

import plotly.graph_objects as go

from landscape import style
from landscape.claim import Claim
from landscape.report import Finding, Page, Panel, Section, Table

CALL = "window.__pwned=1"
PAYLOADS = (
    f"<img src=x onerror={CALL}>",
    f"<script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"</style><script>{CALL}</script>",
    f"</title><svg onload={CALL}>",
    f"--><script>{CALL}</script>",
    f"<!--<script>{CALL}",
    f"]]><script>{CALL}</script>",
    f'"><img src=x onerror={CALL}>',
    f"'><img src=x onerror={CALL}>",
    f'" onmouseover="{CALL}" x="',
    f"' onfocus='{CALL}' autofocus='",
    f"x onpointerenter={CALL}",
    f"`-({CALL})-`",
    "${" + CALL + "}",
    "{{ " + CALL + " }}",
    "{% include '/etc/passwd' %}",
    "{{ self.__init__.__globals__ }}",
    "%{x} %{fullData.name} %{customdata[0]}",
    "$\\href{javascript:" + CALL + "}{x}$",
    f"<a href='javascript:{CALL}'>here</a>",
    f"<a href='JaVaScRiPt:{CALL}'>here</a>",
    f"<a href='data:text/html,<script>{CALL}</script>'>here</a>",
    f"<a href='https://example.invalid/' onclick={CALL}>here</a>",
    f"javascript:{CALL}",
    "<iframe src='https://example.invalid/'></iframe>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    "<img src='https://example.invalid/pixel.png'>",
    "<link rel=stylesheet href=https://example.invalid/x.css>",
    "<style>@import 'https://example.invalid/x.css'; body{display:none}</style>",
    "<base href='https://example.invalid/'>",
    "<meta http-equiv=refresh content='0;url=https://example.invalid/'>",
    "<form action=https://example.invalid/><button>Copy data</button></form>",
    f"<details open ontoggle={CALL}>",
    f"<math><mtext></p><img src=x onerror={CALL}>",
    f"&lt;img src=x onerror={CALL}&gt; &amp; &#60;b&#62;",
    f"\\u003cscript\\u003e{CALL}\\u003c/script\\u003e",
    f'\\"}}];{CALL};//',
    "<b>bold</b><br><sup>up</sup>",
    "a\x00b\x07c\u202ed\u2028e",
    "bytes that are no text: \udcff\udc80",
    '=HYPERLINK("https://example.invalid/")',
)


def everywhere(text: str, name: str) -> Page:
    """Put one text into every field that takes one, and `name` into every text of the figure."""
    bars = go.Bar(
        x=[name, "b"],
        y=[1, 2],
        name=name,
        text=[name, ""],
        hovertext=[name, ""],
        hovertemplate=name + " %{y}",
        showlegend=True,
    )
    figure = style.layout(go.Figure(bars), name, name, height=200).add_annotation(text=name, x=1, y=1)
    figure.update_layout(title={"text": name}, legend={"title": {"text": name}})
    table = Table(text, (text, "n"), ((text, 1), (text, 2)), text)
    panel = Panel(text, figure, text, text, text, table, {text: text})
    section = Section(text, text, (text,), (panel,))
    claim = Claim(text, text, text, text, text, text, text)
    return Page(text, text, (Finding(text, text, text),), (table,), (section,), (text,), (table,), (claim,), text)
