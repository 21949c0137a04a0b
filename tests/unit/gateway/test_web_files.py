"""What the gateway sends of the widget: code only, and little of it."""

from __future__ import annotations

from importlib import resources

from parley_gateway.web_files import WIDGET_MODULES, tight_sheet, without_comments

WIDGET_BYTES_MAX = 60_000
WEB = resources.files("parley_gateway") / "web" / "parley"


def sent(name: str) -> str:
    source = without_comments((WEB / name).read_text("utf-8"))
    return tight_sheet(source) if name == "styles.js" else source


def test_the_whole_widget_is_under_sixty_thousand_bytes_uncompressed() -> None:
    assert sum(len(sent(name).encode()) for name in WIDGET_MODULES) < WIDGET_BYTES_MAX


def test_every_module_is_in_the_table_and_imports_only_modules_of_it() -> None:
    assert {file.name for file in WEB.iterdir()} == set(WIDGET_MODULES)
    for name in WIDGET_MODULES:
        imports = [line.split("'")[-2] for line in sent(name).splitlines() if line.startswith("import ")]
        assert {path.removeprefix("./") for path in imports} <= set(WIDGET_MODULES), name


def test_comments_and_empty_lines_go_and_code_stays() -> None:
    source = (
        "/** A module.\n * Its law.\n */\n"
        "const page = 'http://example.com'; // why\n"
        "  /** @param {string} a */\n"
        "  f(a) { return `// ${a}`; }\n"
        "// a line of its own\n"
    )
    assert without_comments(source).split("\n") == [
        "const page = 'http://example.com';",
        "f(a) { return `// ${a}`; }",
    ]
