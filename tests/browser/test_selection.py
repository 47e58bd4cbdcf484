"""The selection — run, step, layer, family — stays the same from page to page, however the reader came there."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from gcwm_viz.ui.page import PAGES
from tests.browser.conftest import Server
from tests.browser.test_explore import PAGES as CHARTS
from tests.browser.test_explore import click_cell, drawn, has_selected

SELECTED = {"run": "normal", "step": "3", "layer": "2", "family": "o_proj", "cells": "0.k_proj~3.up_proj"}
"""Nowhere a default: the first run by name is ``nan``, the last step 6, the first matrix q_proj of layer 0."""
WITHOUT_A_RUN = {"Start", "Compare", "Explain"}


def url(server: Server, name: str, wanted: dict[str, str]) -> str:
    path = "" if name == "Overview" else name.replace(" ", "_")
    return f"{server.url}/{path}?{'&'.join(f'{key}={value}' for key, value in wanted.items())}"


def ended(page: Page, name: str) -> None:
    """Wait until the page ``name`` has been drawn."""
    expect(page).to_have_title(f"{name} · GCWM", timeout=60_000)
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=60_000)


def unfold(page: Page) -> None:
    """Open the side bar, which Talk keeps folded."""
    if page.get_by_test_id("stExpandSidebarButton").is_visible():
        page.get_by_test_id("stExpandSidebarButton").click()


def go(page: Page, name: str) -> None:
    """Follow the side bar's link."""
    unfold(page)
    page.get_by_test_id("stSidebar").get_by_role("link", name=name, exact=True).click()
    ended(page, name)


def shows(page: Page, wanted: dict[str, str]) -> None:
    """Wait until the side bar shows this selection: a page that has just come may still be drawing it."""
    unfold(page)
    bar = page.get_by_test_id("stSidebar")
    for key, name in {"run": "Run", "layer": "Layer", "family": "Family"}.items():
        expect(bar.get_by_role("combobox", name=name, exact=True)).to_have_value(wanted[key], timeout=60_000)
    expect(bar.get_by_role("slider", name="Step")).to_have_value(wanted["step"], timeout=60_000)


def test_every_page_hands_the_selection_to_the_next(server: Server, window: Callable[[], Page]) -> None:
    """A page without a run hands on what its link alone says; the others are walked through as a reader does."""
    page = window()
    names = list(PAGES.values())
    for here, there in zip(names, [*names[1:], names[0]], strict=True):
        if here in {names[0], *WITHOUT_A_RUN}:
            page.goto(url(server, here, SELECTED))
            ended(page, here)
        go(page, there)
        has_selected(page, **SELECTED)
        if there not in WITHOUT_A_RUN:
            shows(page, SELECTED)
        expect(page.get_by_test_id("stException")).to_have_count(0)


def test_widgets_clicks_links_and_reloads_agree(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(url(server, "Conflict", SELECTED))
    drawn(page, CHARTS["Conflict"])
    page.get_by_test_id("stSidebar").get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    has_selected(page, **SELECTED | {"step": "4"})
    drawn(page, CHARTS["Conflict"])
    click_cell(page, 0, row=1, column=5)
    moved = SELECTED | {"step": "4", "layer": "1", "family": "up_proj"}
    has_selected(page, **moved)
    for name in ("Start", "Explain", "Scores"):  # over pages without a run
        go(page, name)
        has_selected(page, **moved)
    page.reload()
    ended(page, "Scores")
    shows(page, moved)
    go(page, "Start")
    page.get_by_test_id("stMain").get_by_role("link", name="Open →").first.click()  # "nan" has three steps
    ended(page, "Overview")
    has_selected(page, **moved | {"run": "nan", "step": "3"})
    shows(page, moved | {"run": "nan", "step": "3"})


def test_open_this_matrix_arrives(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(url(server, "Overview", {"run": "normal"}))
    ended(page, "Overview")
    link = page.get_by_test_id("stMain").get_by_role("link", name="Open this matrix →")
    href: Any = link.get_attribute("href")
    wanted = dict(pair.split("=") for pair in href.partition("?")[2].split("&"))
    assert (wanted["run"], wanted["layer"]) == ("normal", "3")
    link.click()
    ended(page, "Conflict")
    drawn(page, CHARTS["Conflict"])
    shows(page, wanted)
    has_selected(page, **wanted)


def test_one_press_of_back_a_step(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(url(server, "Conflict", SELECTED))
    ended(page, "Conflict")
    page.get_by_test_id("stSidebar").get_by_role("slider", name="Step").focus()
    page.keyboard.press("ArrowRight")
    has_selected(page, **SELECTED | {"step": "4"})
    ended(page, "Conflict")
    go(page, "Scores")
    page.go_back()
    ended(page, "Conflict")
    has_selected(page, **SELECTED | {"step": "4"})
    page.go_back()
    has_selected(page, **SELECTED)
    expect(page.get_by_test_id("stSidebar").get_by_role("slider", name="Step")).to_have_value("3")


def test_nonsense_in_a_link_falls_back(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(url(server, "Spectra", {"run": "../etc", "step": "99", "layer": "x", "family": "%3Cb%3E"}))
    ended(page, "Spectra")
    expect(page.get_by_test_id("stException")).to_have_count(0)
    default = {"run": "nan", "step": "3", "layer": "0", "family": "q_proj"}
    shows(page, default)
    has_selected(page, **default)
