"""What the example does, checked on real workers by `orchestrator examples`."""

from __future__ import annotations

from definitions import books
from definitions.play import Play

WORKFLOW = "reward-grant"
SAMPLE = {"player": "ada", "achievement": "dragon-slayer"}
KEY = "ada/dragon-slayer"


def check_granted_once(play: Play) -> None:
    """an achievement that is reported twice is rewarded once; another is another"""
    player = f"ada-{play.tag}"
    reported = {"player": player, "achievement": "dragon-slayer"}
    first, second = (play.start(WORKFLOW, reported, key_from_input=True) for _ in range(2))
    play.same((first.created, second.created, second.id), (True, False, first.id), "what the starts made")
    play.same(play.output(first), {"points": 250, "balance": 250}, "the output")
    third = play.start(WORKFLOW, reported | {"achievement": "cartographer"}, key_from_input=True)
    play.same(play.output(third), {"points": 75, "balance": 325}, "the output")
    again = play.start(WORKFLOW, reported, key_from_input=True)
    play.same(play.output(again), {"points": 250, "balance": 250}, "the output, reported after the end")
    play.same(len(books.read(f"player/{player}").entries), 2, "grants")
    texts = [entry.data["text"] for entry in books.read(f"inbox/{player}").entries]
    play.same(texts, ["dragon-slayer: 250 points, 250 in all", "cartographer: 75 points, 325 in all"], "messages")


def check_unknown(play: Play) -> None:
    """an achievement that does not exist is not rewarded"""
    handle = play.start(WORKFLOW, {"player": f"ada-{play.tag}", "achievement": "none"}, key_from_input=True)
    play.same(play.error(handle, "failed")["name"], "UnknownAchievement", "the error")
    play.same(books.read(f"player/ada-{play.tag}").entries, [], "grants")
