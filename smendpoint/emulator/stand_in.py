"""A stand-in for a language model: it answers a question with the best sentence of the context in the prompt."""

from __future__ import annotations

import re

__all__ = ["answer", "answer_from", "split_prompt", "stems"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_QUESTION = re.compile(r"^[ \t]*(?:question|query|q)[ \t]*:[ \t]*(?P<text>\S[^\n]*)", re.IGNORECASE | re.MULTILINE)
_CUE = re.compile(r"^[ \t]*(?:helpful |short |final )?(?:answer|a)[ \t]*:[ \t]*$", re.IGNORECASE | re.MULTILINE)
_LABEL = re.compile(r"^\s*(?:context|document|documents|text|question|query|q)[ \t]*:[ \t]*", re.IGNORECASE)

_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and are as at be been but by did do does for from had has have he her his how i if in is it its long"
        " many me much my of on or our she so that the their them there they this to use was we were what when where"
        " which who whom whose why will with you your"
    )
)
# The pattern of a question, and the pattern of a sentence with such an answer.
_KINDS = (
    (re.compile(r"\bhow long\b", re.I), re.compile(r"\d+ ?(?:second|minute|hour|day|night|week|month|year)s?\b", re.I)),
    (re.compile(r"\bhow (?:many|much|old|far|big)\b", re.I), re.compile(r"\d")),
    (re.compile(r"\b(?:when|what year)\b", re.I), re.compile(r"\b\d{4}\b|\d+(?::\d\d|(?:st|nd|rd|th))\b", re.I)),
    (re.compile(r"\bwhy\b", re.I), re.compile(r"\b(?:because|since|due to|therefore)\b", re.I)),
)
_SUFFIXES = ("ization", "izing", "ized", "izes", "ize", "ation", "ing", "ed", "es", "s", "ly")


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            return word[: -len(suffix)]
    return word


def stems(text: str) -> frozenset[str]:
    """Return the meaningful words of a text, without their endings."""
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS)


def split_prompt(prompt: str) -> tuple[str, str]:
    """Find the question in a prompt, and return ``(question, everything else)``.

    The question is the text after the last ``Question:`` at the start of a line, else the last sentence that ends with
    a question mark; without either it is empty.
    """
    text = _CUE.sub("", prompt)
    labels = list(_QUESTION.finditer(text))
    if labels:
        labelled = labels[-1]
        return labelled["text"].strip(), text[: labelled.start()] + text[labelled.end() :]
    sentences = [sentence for sentence in _SENTENCE_END.split(text) if sentence.strip()]
    for index in range(len(sentences) - 1, -1, -1):
        if sentences[index].rstrip().endswith("?"):
            return sentences[index].strip(), "\n".join(sentences[:index] + sentences[index + 1 :])
    return "", text


def answer_from(context: str, question: str) -> str:
    """Return the sentence of ``context`` that shares the most words with ``question``; empty if none shares any.

    Of equally good sentences, the first is used. A sentence with the kind of answer that is asked for (a duration for
    "how long", a number for "how many") counts as sharing two more words.
    """
    wanted = stems(question)
    kinds = [evidence for asks, evidence in _KINDS if asks.search(question)]
    best, best_score = "", 0
    for sentence in _SENTENCE_END.split(context):
        shared = len(wanted & stems(sentence))
        score = shared + sum(2 for evidence in kinds if shared and evidence.search(sentence))
        if score > best_score:
            best, best_score = sentence, score
    return _LABEL.sub("", best).strip()


def answer(prompt: str, background: str = "") -> str:
    """Answer a prompt from its context, if that has the answer, or else with a plain sentence about the prompt.

    Args:
        prompt: the question, perhaps with context.
        background: more context, such as the other messages of a chat.
    """
    question, context = split_prompt(prompt)
    if question:
        return answer_from(f"{context}\n{background}", question) or "The context does not say."
    text = " ".join(prompt.split())
    return f"The stand-in model read: {text}" if text else "The stand-in model read nothing."
