"""Articles found by meaning as well as by words, where an embeddings API is configured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from parley_common.business import load
from parley_common.errors import DependencyUnavailable
from parley_tools.kits.knowledge import index_of
from parley_tools.meaning import Meaning, joined
from parley_tools.providers import HttpEmbeddings
from parley_tools.rules.passages import Found, Passage
from unit.tools.test_kits import Caller
from unit.tools.world import CAP as CAP_FOLDER
from unit.tools.world import World

CAP = load(CAP_FOLDER)
FIRM = "Zebras umbrella?"


class Topics:
    """Embeddings that know three things apart, and count how often they are asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def of(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append(len(texts))
        return [
            [float("llc" in t or "zebras" in t), float("apprais" in t), 0.1] for t in map(str.lower, texts)
        ]


class Away:
    async def of(self, texts: Sequence[str]) -> list[list[float]]:
        raise DependencyUnavailable("away", code="provider_unavailable")


async def test_a_question_without_a_word_of_its_article_finds_it_by_meaning() -> None:
    index = index_of(CAP)
    assert index.find(FIRM, 3) == []
    found = await Meaning(Topics()).find(CAP, index, FIRM, 3)
    assert found
    assert all("llc" in f"{each.passage.title} {each.passage.text}".lower() for each in found)


async def test_passages_are_embedded_once_for_a_version_and_each_question_once() -> None:
    topics = Topics()
    meaning, index = Meaning(topics), index_of(CAP)
    await meaning.find(CAP, index, FIRM, 3)
    await meaning.find(CAP, index, "What is an appraisal?", 3)
    assert topics.asked == [len(index.passages), 1, 1]


async def test_while_the_api_is_away_words_alone_answer(here: World) -> None:
    question = {"query": "Is there a prepayment penalty?"}
    by_words = await Caller(here, here.worker()).output("search_knowledge_base", question)
    output = await Caller(here, here.worker(meaning=Meaning(Away()))).output(
        "search_knowledge_base", question
    )
    assert output["found"] is True
    assert output == by_words


def test_what_stands_high_in_both_orders_comes_first_and_keeps_its_better_relevance() -> None:
    one, two, three = (Passage(name, name, name, name) for name in ("one", "two", "three"))
    found = joined([Found(one, 0.9), Found(two, 0.5)], [Found(three, 0.8), Found(two, 0.7)], 3)
    assert [each.passage.title for each in found] == ["two", "one", "three"]
    assert found[0].coverage == 0.7


# -- the API --------------------------------------------------------------------------------------


class Api:
    """Answers as OpenAI's embeddings API does, rows in any order."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.answer: httpx.Response | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert (body["model"], request.headers["authorization"]) == ("m", "Bearer key")
        self.batches.append(len(body["input"]))
        rows = [{"index": at, "embedding": [float(len(text))]} for at, text in enumerate(body["input"])]
        return self.answer or httpx.Response(200, json={"object": "list", "data": rows[::-1]})


@pytest.fixture
async def api() -> AsyncIterator[tuple[Api, HttpEmbeddings]]:
    answers = Api()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as http:
        headers = {"Authorization": "Bearer key"}
        yield (
            answers,
            HttpEmbeddings(
                http, "https://example.com/v1/embeddings", model="m", headers=headers, deadline_ms=500
            ),
        )


async def test_texts_go_in_batches_and_come_back_in_order(api: tuple[Api, HttpEmbeddings]) -> None:
    answers, embeddings = api
    texts = ["x" * n for n in range(1, 131)]
    assert await embeddings.of(texts) == [[float(n)] for n in range(1, 131)]
    assert answers.batches == [64, 64, 2]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(200, content=b"not json"),
        httpx.Response(200, json={"data": []}),
        httpx.Response(200, json={"data": [{"index": 0, "embedding": []}]}),
        httpx.Response(200, json={"data": [{"index": 5, "embedding": [1.0]}]}),
    ],
)
async def test_an_api_that_fails_or_talks_nonsense_is_away(
    api: tuple[Api, HttpEmbeddings], answer: httpx.Response
) -> None:
    answers, embeddings = api
    answers.answer = answer
    with pytest.raises(DependencyUnavailable):
        await embeddings.of(["one"])
