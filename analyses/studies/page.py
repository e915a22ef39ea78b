"""The report of a study: claims first, then the figures across trainings, then those of each analysis."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analyses import experiments
from analyses.pages import Stored
from analyses.pages import page as page_of
from analyses.studies import drawing, wording
from analyses.studies.claims import LEVEL, Tested
from analyses.studies.plan import Graph
from analyses.studies.table import Drawing
from landscape.claim import Claim
from landscape.claim import table as claimed
from landscape.report import Page, Panel, Section


def page(
    graph: Graph, stored: Mapping[str, Stored], tested: Sequence[Tested], failed: Mapping[str, str], command: str
) -> Page:
    """Put a study together.

    Args:
        graph: The graph.
        stored: Results by key.
        tested: Claims with their verdicts.
        failed: Why nodes are missing, by key.
        command: Command that makes the study.

    Returns:
        The page.
    """
    study, scale = graph.study, graph.scale
    shown = _shown(graph, stored)
    rest = page_of(shown, study.title)
    toys, own = _experiments(graph, stored, command)
    figures = [_panel(graph, stored, each, network, command) for each in study.figures for network in graph.networks]
    seeds = [_claim_panel(each, i, command) for i, each in enumerate(tested) if not each.claim.figure]
    sections = [
        Section("Across trainings", "How does it depend on the setting?", panels=tuple(figures)),
        *toys,
        *rest.sections,
        Section("Seeds", "What does each seed say of a claim?", panels=tuple(seeds)),
    ]
    several = f"{graph.seeds} seeds" if graph.seeds > 1 else "one seed"
    apart = ", ".join(f"{key} = {value}" for key, value in graph.overrides.items() if key != "data")
    about = study.text.rstrip(".")
    return dataclasses.replace(
        rest, title=study.title, findings=(),
        lead=f"{about}. Scale {scale.name}, {several}: {scale.text}" + (f" But with {apart}." if apart else ""),
        claims=(*(_row(graph, each, i) for i, each in enumerate(tested)), *own),
        sections=tuple(section for section in sections if section.panels),
        remark=_remark(tested),
        warnings=(*sorted({f"Not made: {why}" for why in failed.values()}), *rest.warnings),
    )  # fmt: skip


def _remark(tested: Sequence[Tested]) -> str:
    """How claims were tested, where any was."""
    tests = sum(each.p == each.p for each in tested)
    if not tests:
        return ""
    one = "The p-value of the one claim tested is not corrected"
    several = f"{tests} claims are tested: their p-values are corrected together by Holm's rule"
    return (
        f"{one if tests == 1 else several}, and a verdict takes a corrected p below {LEVEL:g}. Differences are paired "
        "within seeds. Intervals are 95 % each, not corrected."
    )


def _shown(graph: Graph, stored: Mapping[str, Stored]) -> list[Stored]:
    """Results whose own figures are drawn: those that were not repeated over a setting, unless the study says."""
    questions = {question.id: question for question in graph.study.analyses}
    keys: dict[str, None] = {}
    for asked in graph.asked:
        question = questions.get(asked.id)
        if question and (not asked.varied if question.show is None else question.show):
            keys.update(dict.fromkeys(key for key in asked.keys.values() if key in stored))
    return [stored[key] for key in keys]


def _experiments(graph: Graph, stored: Mapping[str, Stored], command: str) -> tuple[list[Section], list[Claim]]:
    """A section for each experiment, and the claims that it decides by itself."""
    sections, claims = [], []
    for question in graph.study.experiments:
        experiment: Any = experiments.named(question.analysis)
        panels: list[Panel] = []
        for i, asked in enumerate(a for a in graph.asked if a.id == question.id):
            results = [stored[key].result for key in asked.keys.values() if key in stored]
            if not results or question.show is False:
                continue
            answer, detail = experiment.words(*results)
            drawn, anchor = experiment.views(*results), _anchor(question.id, i)
            found = experiment.claims(*results)
            data = claimed(found, experiment.note(*results))
            panels += [
                Panel(title, figure, caption, command, f"{answer}. {detail}" if n == 0 else "",
                      data if n == 0 else None, anchor=f"{anchor}-{n}" if n else anchor)
                for n, (title, figure, caption) in enumerate(drawn)
            ]  # fmt: skip
            claims += [dataclasses.replace(each, anchor=anchor) for each in found]
        sections.append(Section(experiment.TITLE, experiment.QUESTION, panels=tuple(panels)))
    return sections, claims


def _anchor(id: str, place: int) -> str:
    return f"show-{id}" if not place else f"show-{id}-{place}"


def _panel(graph: Graph, stored: Mapping[str, Stored], each: Drawing, network: str, command: str) -> Panel:
    figure, data = drawing.draw(each, graph, stored, network)
    return Panel(
        title=f"{each.title} ({network})" if network else each.title,
        figure=figure,
        caption=" ".join(filter(None, (each.caption, drawing.CAPTIONS[each.kind]))),
        command=command,
        data=data,
        anchor=_anchor(each.id, graph.networks.index(network)),
    )


def _claim_panel(tested: Tested, i: int, command: str) -> Panel:
    claim = tested.claim
    figure, data = drawing.of_claim(tested)
    return Panel(
        title=f"{claim.text} ({tested.network})" if tested.network else claim.text,
        figure=figure,
        caption=f"Points are {'entries' if claim.entries else 'training seeds'}; the bar is their mean with its 95 % "
        f"interval; dashed: what the claim is held against. Quantity: {claim.quantity}",
        command=command,
        summary=f"Found {wording.found(tested)}; {wording.behind(tested)}. {wording.decision(tested).capitalize()}.",
        data=data,
        anchor=f"claim-{i}",
    )


def _row(graph: Graph, tested: Tested, i: int) -> Claim:
    claim = tested.claim
    shown = {figure.id for figure in graph.study.figures} | {q.id for q in graph.study.experiments}
    at = graph.networks.index(tested.network) if claim.figure in {f.id for f in graph.study.figures} else 0
    return Claim(
        text=f"{claim.text} ({tested.network})" if tested.network else claim.text,
        place=f"{claim.source}, {claim.place}",
        claimed=claim.claimed,
        found=wording.found(tested),
        detail=wording.behind(tested),
        verdict=wording.decision(tested),
        anchor=_anchor(claim.figure, at) if claim.figure in shown else f"claim-{i}",
    )


def files(made: Mapping[str, Path]) -> list[Path]:
    """The result files among a study's files."""
    return [path for path in made.values() if path.suffix == ".h5"]
