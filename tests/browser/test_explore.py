"""Deep links, clicks, slider and what-if in a real browser."""

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.factories_runs import write_run

PAGES = {
    "": 1, "Conflict": 7, "Spectra": 4, "Gate": 5, "Solver": 3, "Scores": 5, "Examples": 0, "Two_runs": 8, "Decide": 2,
    "Try": 0, "Strength": 3,
}  # fmt: skip
STUDY_PAGES = {"Compare": 5, "Explain": 4}


def drawn(page: Page, count: int) -> None:
    """Wait until the script has ended and ``count`` charts stand."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=60_000)
    expect(page.locator(".js-plotly-plot")).to_have_count(count)
    page.wait_for_function("[...document.querySelectorAll('.js-plotly-plot')].every(plot => plot._fullLayout?._size)")


def cell_centre(page: Page, plot: int, row: int, column: int) -> tuple[float, float]:
    x, y = page.evaluate(
        """([plot, row, column]) => {
            const chart = document.querySelectorAll('.js-plotly-plot')[plot];
            chart.scrollIntoView({block: 'center'});
            const box = chart.getBoundingClientRect(), layout = chart._fullLayout;
            return [box.x + layout._size.l + layout.xaxis.d2p(column), box.y + layout._size.t + layout.yaxis.d2p(row)];
        }""",
        [plot, row, column],
    )
    return x, y


def click_cell(page: Page, plot: int, row: int, column: int) -> None:
    x, y = cell_centre(page, plot, row, column)
    page.mouse.move(x, y)
    page.wait_for_timeout(150)
    page.mouse.click(x, y)


def has_selected(page: Page, **wanted: str) -> None:
    """Wait until the address carries these parameters, in any order."""
    page.wait_for_url(lambda url: wanted.items() <= dict(parse_qsl(urlsplit(url).query)).items())


def colours(page: Page, plot: int) -> str:
    return str(
        page.locator(".js-plotly-plot").nth(plot).evaluate("plot => JSON.stringify(plot.data.map(t => t.z ?? t.y))")
    )


def test_the_slider_moves_the_map_and_a_click_opens_the_matrix_everywhere(
    server: Server, window: Callable[[], Page]
) -> None:
    page = window()
    page.goto(f"{server.url}/Conflict?run=normal")
    drawn(page, PAGES["Conflict"])
    before = colours(page, 0)
    page.get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowLeft")
    has_selected(page, step="5")
    page.wait_for_function(
        """before => {
            const found = document.querySelector('.js-plotly-plot');
            return found && JSON.stringify(found.data.map(t => t.z ?? t.y)) !== before;
        }""",
        arg=before,
    )
    drawn(page, PAGES["Conflict"])
    click_cell(page, 0, row=2, column=5)
    has_selected(page, layer="2", family="up_proj")
    page.get_by_role("link", name="Spectra").click()
    expect(page.get_by_role("heading", level=3)).to_have_text("model.layers.2.mlp.up_proj.weight")
    page.reload()
    expect(page.get_by_role("heading", level=3)).to_have_text("model.layers.2.mlp.up_proj.weight")


def test_hover_text_is_literal_and_top_right_and_undefined_cells_answer_too(
    server: Server, window: Callable[[], Page]
) -> None:
    page = window()
    page.goto(f"{server.url}/Conflict?run=nan&step=3")
    drawn(page, PAGES["Conflict"])
    assert page.locator(".js-plotly-plot a[href], .js-plotly-plot b").count() == 0
    assert any("<b>bo" in (plot.text_content() or "") for plot in page.locator(".js-plotly-plot").all())
    click_cell(page, 0, row=0, column=6)
    has_selected(page, family="down_proj")
    drawn(page, PAGES["Conflict"])
    click_cell(page, 0, row=1, column=3)
    has_selected(page, layer="1", family="o_proj")


def test_a_box_and_ticks_select_cells_that_links_carry(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/Conflict?run=normal&step=3&layer=2&family=o_proj")
    drawn(page, PAGES["Conflict"])
    page.locator(".modebar-btn[data-title='Box Select']").first.click()
    start, end = cell_centre(page, 0, row=0, column=0), cell_centre(page, 0, row=1, column=1)
    page.mouse.move(start[0] - 12, start[1] - 12)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.move(end[0] + 8, end[1] + 8, steps=3)
    page.mouse.up()
    box = ["0.q_proj", "0.k_proj", "1.q_proj", "1.k_proj"]
    has_selected(page, cells="~".join(box), layer="2", family="o_proj")
    drawn(page, PAGES["Conflict"])
    table = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert table is not None
    page.mouse.click(table["x"] + 16, table["y"] + 36 + 17)  # the box of the first row, the highest cell
    page.wait_for_url(lambda url: dict(parse_qsl(urlsplit(url).query)).get("cells", "").count("~") == 4)
    drawn(page, PAGES["Conflict"])
    page.mouse.click(table["x"] + 120, table["y"] + 36 + 17)  # its family
    page.wait_for_url(lambda url: dict(parse_qsl(urlsplit(url).query))["family"] != "o_proj")
    chosen = dict(parse_qsl(urlsplit(page.url).query))
    assert f"{chosen['layer']}.{chosen['family']}" in chosen["cells"].split("~")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Gate").click()
    expect(page.get_by_text("5 selected cells: ")).to_be_visible()
    has_selected(page, **chosen)


@pytest.mark.parametrize("layers", ["normal", "wide"])
def test_nothing_important_lies_below_the_fold(server: Server, window: Callable[[], Page], layers: str) -> None:
    """The map and its table, of 4 and of 36 layers, on a screen of 1440 × 900."""
    if not (server.root / layers).exists():
        write_run(server.root, layers)
    page = window()
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"{server.url}/Conflict?run={layers}")
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot')?._fullLayout?._size"
        " && document.querySelector('[data-testid=stDataFrame] canvas')",
        timeout=60_000,
    )
    page.wait_for_function(  # once the layout has settled
        "['.js-plotly-plot', '[data-testid=stDataFrame]'].every("
        "part => document.querySelector(part).getBoundingClientRect().bottom <= 860)"
    )
    rows = page.evaluate("document.querySelector('.js-plotly-plot')._fullLayout.yaxis.d2p(1)"
                         " - document.querySelector('.js-plotly-plot')._fullLayout.yaxis.d2p(0)")  # fmt: skip
    assert rows > 11  # pixels


def test_what_if_changes_alpha(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/Gate?run=normal")
    drawn(page, 5)
    value = page.get_by_test_id("stMetricValue").first
    before = value.inner_text()
    page.get_by_role("slider", name="Steepness κ").focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(value).not_to_have_text(before)
