"""Places and room that keys share, whatever they ask for, and in whichever order."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.turns import Room, Turns

KEYS = ["a", "b", "c"]
# Asking with a key, and the number of one of those that wait or that have a place.
ASK = st.tuples(st.just("ask"), st.sampled_from(KEYS))
END = st.tuples(st.sampled_from(["free", "cancel"]), st.integers(0, 20))
STEPS = st.lists(ASK | END, max_size=60)


class Asking:
    """Who asked, in order, what became of it, and what each key held when a place was given."""

    def __init__(self, n: int) -> None:
        self.turns = Turns(n)
        self.waiting: list[tuple[str, asyncio.Task[None]]] = []
        self.holding: list[str] = []

    async def step(self, what: str, which: str | int) -> None:
        before, waited = Counter(self.holding), [key for key, _ in self.waiting]
        if what == "ask":
            assert isinstance(which, str)
            self.waiting.append((which, asyncio.create_task(self.turns.take(which))))
            waited.append(which)
        elif what == "free" and self.holding:
            key = self.holding.pop(int(which) % len(self.holding))
            self.turns.free(key)
            before = Counter(self.holding)
        elif what == "cancel" and self.waiting:
            _, task = self.waiting.pop(int(which) % len(self.waiting))
            task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        given = [(key, task) for key, task in self.waiting if task.done()]
        assert len(given) <= 1
        for key, task in given:
            # It was the first of its key, and no key that waited held less.
            assert task is next(task for other, task in self.waiting if other == key)
            assert before[key] == min(before[other] for other in waited)
            self.waiting.remove((key, task))
            self.holding.append(key)


@given(n=st.integers(1, 4), steps=STEPS)
@settings(max_examples=150)
def test_places_go_round_and_none_is_lost(n: int, steps: list[tuple[str, str | int]]) -> None:
    async def go() -> None:
        asking = Asking(n)
        for step in steps:
            await asking.step(*step)
            assert len(asking.holding) <= n
            assert asking.turns.all_taken == (len(asking.holding) == n)
            assert asking.turns.all_taken or not asking.waiting
        while asking.holding:
            await asking.step("free", 0)
        assert not asking.waiting
        assert not asking.turns.all_taken

    asyncio.run(go())


@given(queues=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 6), min_size=1))
def test_of_one_place_every_key_has_its_turn(queues: dict[str, int]) -> None:
    async def go() -> list[str]:
        asking = Asking(1)
        await asking.step("ask", "first")
        # All that a key wants is there before the next key comes.
        for key in [key for key, n in queues.items() for _ in range(n)]:
            await asking.step("ask", key)
        served = []
        while asking.holding:
            await asking.step("free", 0)
            served += asking.holding
        return served

    served = asyncio.run(go())
    assert served == [key for turn in range(6) for key, n in queues.items() if n > turn]


def test_a_place_that_is_given_to_who_goes_away_is_given_on() -> None:
    async def go() -> None:
        turns = Turns(1)
        await turns.take("a")
        leaves, stays = (asyncio.create_task(turns.take(key)) for key in "bc")
        await asyncio.sleep(0)
        turns.free("a")
        # It was given, and nobody has told it yet.
        leaves.cancel()
        await asyncio.wait_for(stays, 60)
        assert leaves.cancelled()

    asyncio.run(go())


@given(most=st.integers(0, 20), steps=st.lists(st.tuples(st.booleans(), st.sampled_from(KEYS)), max_size=80))
def test_a_key_never_takes_what_is_left_once_it_has_as_much(most: int, steps: list[tuple[bool, str]]) -> None:
    room, held = Room(most), Counter[str]()
    for enters, key in steps:
        left = most - held.total()
        assert (room.left, room.of(key), room.empty) == (left, held[key], not held.total())
        assert room.has_room_for(key) == (held[key] < left)
        if enters and room.has_room_for(key):
            room.enter(key)
            held[key] += 1
        elif not enters and held[key]:
            room.leave(key)
            held[key] -= 1
    # Two that want ever more, and take back at once what they gave up, leave some to a third.
    for _ in range(2 * most):
        for key in ("a", "b"):
            while room.has_room_for(key):
                room.enter(key)
            if room.of(key):
                room.leave(key)
        if room.of("c"):
            room.leave("c")
    assert room.has_room_for("c") == (most > 0)


def test_one_caller_without_a_key_may_have_all() -> None:
    room = Room(3)
    for _ in range(3):
        assert room.has_room_for("")
        room.enter("")
    assert not room.has_room_for("")
