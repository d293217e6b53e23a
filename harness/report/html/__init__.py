"""A report: one page that opens offline, from output folders.

    page = report_page([Path("runs")])            # harness.report.html.page
    write_report([Path("runs")], Path("report.html"))

`study` gathers what a folder holds, `answer` says it in plain words, `vector` makes charts part of
the page, `packing` puts the records into it, and the Jinja templates beside them lay it out.
Nothing is computed here: numbers come from frames, words from the modules that write tables.
"""
