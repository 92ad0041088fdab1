"""What the wall clock shows at the virtual seconds of a run, which has jumps."""

from __future__ import annotations

from llm_dispatcher.testing._simulation.source import START
from tests.simulation.record import Run


def walls(run: Run, first: float, last: float) -> list[float]:
    """What the wall clock shows at both ends of a time, and right before and after each jump in it."""
    late = run.stalled + 1.0  # a jump may come later than it was planned
    jumps = [each for each in run.scenario.happenings if each.kind == "jump"]
    moments = {first, last, *(each.at for each in jumps if first <= each.at <= last)}
    walls: list[float] = []
    for moment in moments:
        sure = sum(each.seconds for each in jumps if each.at + late < moment)
        unsure = [each.seconds for each in jumps if each.at <= moment <= each.at + late]
        walls.append(START + moment + sure)
        for number in range(1, len(unsure) + 1):
            walls.append(START + moment + sure + sum(unsure[:number]))
    return walls
