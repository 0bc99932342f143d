"""Tables as self-contained HTML."""

from collections.abc import Sequence

PAGE = """<!doctype html><meta charset="utf-8"><style>
:root{color-scheme:light dark}body{font:14px/1.5 system-ui,sans-serif;margin:8px;color:CanvasText;background:Canvas}
div{overflow:auto;max-height:70vh}table{border-collapse:collapse}caption{text-align:left;padding-bottom:8px}
th{position:sticky;top:0;background:Canvas}th,td{text-align:left;padding:3px 12px 3px 0;border-bottom:1px solid #8884}
td.number{text-align:right;font-variant-numeric:tabular-nums}
</style><div tabindex="0"><table><caption>{{ caption }}</caption>
<thead><tr>{% for name in columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in rows %}<tr>{% for cell in row -%}
<td{% if cell is number %} class="number"{% endif %}>{{ cell }}</td>{%- endfor %}</tr>
{% endfor %}</tbody></table></div>
"""


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str | float]], caption: str = "") -> str:
    """A page with one table; whatever the cells hold is shown as text.

    >>> "<b>" in html_table(["name"], [["<b>"]])
    False
    """
    import jinja2

    template = jinja2.Environment(autoescape=True).from_string(PAGE)
    return template.render(columns=columns, rows=rows, caption=caption)
