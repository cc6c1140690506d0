"""The stand-in for a language model: the best sentence of the context."""

from __future__ import annotations

import pytest

from smendpoint.cli._demo import DOCUMENT, QUESTION
from smendpoint.emulator.stand_in import answer, answer_from, split_prompt

LAST = "Therefore, Peter stayed with her at the hospital for 3 days without leaving."


@pytest.mark.parametrize(
    "prompt",
    [
        "Use the following pieces of context to answer the question at the end.\n\n{document}\n\n"
        "Question: {question}\nAnswer:",
        "{document}\n{question}",
        "{question}\n\n{document}",
        "Context: {document}\nQ: {question}\nA:",
    ],
)
def test_the_answer_is_in_the_sentence_that_fits_best(prompt: str) -> None:
    assert answer(prompt.format(document=DOCUMENT, question=QUESTION)) == LAST


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Why should Peter stay?", "Since she was diagnosed"),
        ("Who took a taxi to the city?", "Peter and Elizabeth took a taxi"),
        ("Where was Elizabeth rushed?", "While in the party, Elizabeth collapsed"),
        ("How many days did Peter stay?", "Therefore, Peter stayed"),
    ],
)
def test_other_questions_have_other_answers(question: str, said: str) -> None:
    assert answer_from(DOCUMENT, question).startswith(said)


def test_a_year_answers_when() -> None:
    text = "The bridge was built by the city. The bridge was opened to the public in 1932."
    assert answer_from(text, "When was the bridge built?").endswith("1932.")


def test_the_first_of_equal_sentences_wins() -> None:
    assert answer_from("One cat sat. Two cats ran.", "Is there a cat?") == "One cat sat."


def test_a_label_before_the_sentence_is_not_a_part_of_the_answer() -> None:
    assert answer_from("Context: The cat sat.", "Where is the cat?") == "The cat sat."


def test_without_a_fitting_sentence_it_says_so() -> None:
    assert answer(f"{DOCUMENT}\nQuestion: Which volcano erupted?") == "The context does not say."


def test_the_background_counts_as_context() -> None:
    assert answer(QUESTION, DOCUMENT) == LAST


def test_without_a_question_it_repeats_the_prompt() -> None:
    assert answer("Hello\nthere") == "The stand-in model read: Hello there"
    assert answer("  ") == "The stand-in model read nothing."


def test_the_last_labelled_question_counts() -> None:
    assert split_prompt("Question: One?\nQuestion: Two?\nAnswer:") == ("Two?", "Question: One?\n\n")
