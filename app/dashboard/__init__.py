"""Pages for the people who operate a ledger, at `/dashboard`.

A page is a file here, a template of the same name, and a line in `routes.PAGES`:

    class Models(Controller):                          # app/dashboard/models.py
        path = "/models"

        @page("/")
        async def models(self, request: PageRequest) -> Answer[bytes]:
            period = request.asked(ModelsQuery).period  # a `Query`; empty fields count as left out
            use = await request.parts.monitoring.models(period)
            return request.page("models.html", use=use)

    {% extends "base.html" %}                          {# app/dashboard/templates/models.html #}
    {% import "parts.html" as ui with context %}
    {% block title %}Models{% endblock %}
    {% block main %}
    <h1>Models</h1>
    {% call ui.live("live") %} ... {% endcall %}       {# fetched anew every 3 s; never with fields in it #}
    {% endblock %}

What the frame sees to, so that no page has to: the session (`request.visitor.session`), where a form comes
from and its token, errors as pages, escaping, cookies, headers. Nothing inline: the content policy lets no
`style=` and no `<script>` run; bars are SVG, charts are drawn by `dashboard.js` from the table inside a
`<figure data-chart>` (see `overview.html`).

What somebody does goes through a form with `ui.guard(once)`, whose `once` is of `pages.once()` and is read by
`request.sent(Struct)`; then through `request.by_hand(Asked(...), do)`, which the audit knows of before it
happens; and is answered by `see(path)`, where `ui.audit(actions, did)` tells how it ended. Templates have
`visitor`, `now`, `here`, and the filters of `showing`. Data comes from `request.parts`.
"""
