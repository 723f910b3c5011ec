"""Style sheets: one for the fragments that a notebook shows, one for the exported page around them. No fonts or files from outside."""

FRAGMENTS = """
.verdict { border-left: 6px solid #6b6b6b; padding: .4em 1em; margin: 1em 0; border-radius: 4px; background: rgba(128,128,128,.10); }
.verdict.good { border-color: #009E73; } .verdict.weak { border-color: #E69F00; } .verdict.bad { border-color: #D55E00; }
.verdict .headline { font-size: 1.3em; font-weight: 650; margin: .4em 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: .7em; }
.card { padding: .6em .8em; border: 1px solid rgba(128,128,128,.35); border-radius: 6px; }
.card span, .card b, .card small { display: block; } .card b { font-size: 1.7em; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card small { opacity: .8; line-height: 1.35; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: .6em 1em; margin: .4em 0 1.6em; }
.player { margin: 0; } .player figcaption { font-size: .9em; margin-bottom: .15em; } .player audio { width: 100%; height: 40px; }
.scroll { overflow-x: auto; margin: .6em 0; max-width: 100%; }
.scroll table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scroll caption { text-align: left; opacity: .8; padding: .2em 0; }
.scroll th, .scroll td { text-align: left; padding: .3em .9em .3em 0; border-bottom: 1px solid rgba(128,128,128,.3); vertical-align: top; }
.scroll td { white-space: nowrap; } .scroll td.long { white-space: normal; min-width: 15em; }
.scroll thead th { border-bottom: 2px solid rgba(128,128,128,.6); } .scroll tbody th { font-weight: 500; }
"""

PAGE = """
:root { color-scheme: light dark; --text: #1d2126; --page: #ffffff; --soft: #f3f4f6; --link: #0060a8; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e6ea; --page: #14171b; --soft: #20252b; --link: #7cc0f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 860px; margin: 0 auto; padding: 1em 18px 4em; }
h1 { font-size: 1.75em; line-height: 1.2; margin: .8em 0 .4em; } h2 { font-size: 1.3em; margin: 1.8em 0 .4em; }
h3 { font-size: 1.08em; margin: 1.3em 0 .1em; } h3 + p { margin-top: 0; }
a { color: var(--link); } a.anchor-link { display: none; }
img { max-width: 100%; height: auto; display: block; margin: .5em 0; border-radius: 4px; background: #fff; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em; }
:not(pre) > code { background: var(--soft); padding: .1em .3em; border-radius: 3px; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { font-size: .93em; } .scroll td, .scroll th { overflow-wrap: normal; }
.rendered_html > table { border-collapse: collapse; display: block; overflow-x: auto; }
.rendered_html > table :is(td, th) { padding: .3em .9em .3em 0; text-align: left; border-bottom: 1px solid rgba(128,128,128,.3); }
details.fold { margin: .1em 0; font-size: .9em; line-height: 1.35; }
details.fold > summary { cursor: pointer; opacity: .65; font-size: .85em; width: max-content; }
details.fold > div { background: var(--soft); padding: .7em .9em; border-radius: 4px; overflow-x: auto; }
.output_error { border-left: 6px solid #D55E00; background: var(--soft); padding: .7em .9em; }
@media print { details.fold { display: none; } audio { display: none !important; } }
"""
