"""One HTML page about a run for the person who decides; `page/` has its template, style and texts."""
