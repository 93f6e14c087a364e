"""Weak labels for the four intents of the shipped routes, from what kind of task a text comes from.

No data set carries these labels. Short questions of fact and service desks' questions count as `simple_faq`,
tasks that ask for or show code as `code_gen`, questions of mathematics, science and engineering as
`technical`, and what needs weighing, several steps or free writing as `complex`. The sources are exam
questions mostly, so some sentences of our own stand for what developers and office workers ask; they are
repeated, since they are few.
"""

import re
from collections.abc import Iterator

from services.router.training.corpus import Corpus

LABELS = ("simple_faq", "technical", "complex", "code_gen")
"""In the order of the shipped routes; a text that is none of them surely is `complex`."""
UNSURE = "complex"
MAX_PER_LABEL = 6_000
REPETITIONS = 25

_OPTIONS = re.compile(r"\n\(?A[.)] .*", re.DOTALL)
_FACTS = {"natural_qa", "trivia_qa", "commonsense_qa", "openbook_qa"}
_CODE = {"mbpp", "human_eval", "coding", "code"}
_TECHNICAL = re.compile(
    r"physics|engineering|chemistry|computer|machine_learning|statistics|mathematics|algebra|econometrics"
    r"|astronomy|/math$|/stem$|/gsm8k$|mgsm$"
)
_COMPLEX = re.compile(
    r"law|moral|logic|philosophy|history|jurisprudence|ethics|security_studies|policy|fallacies|accounting"
    r"|/writing|/roleplay|/reasoning|/humanities|/extraction|gpqa|math_l5"
)

_SENTENCES = {
    "simple_faq": (
        "What are your opening hours?",
        "How do I reset my password?",
        "Where can I see my invoices?",
        "What does VAT mean?",
        "Can I change my delivery address?",
        "Who founded the company?",
        "When is the next public holiday?",
        "How long does shipping take?",
        "Do you offer a free trial?",
        "What is the capital of Portugal?",
        "How many days are there in a leap year?",
        "Which plan includes phone support?",
        "hi there",
        "thanks, that is all",
        "Is there a student discount?",
        "What time zone is the support team in?",
        "Translate good morning into Spanish.",
        "What is the boiling point of water?",
        "How can I cancel my subscription?",
        "Where do I find my order number?",
    ),
    "technical": (
        "Why does my pod stay in CrashLoopBackOff after the upgrade?",
        "How do I configure TLS termination in the load balancer?",
        "What is the difference between a mutex and a semaphore?",
        "The database reports too many connections; how do I find the cause?",
        "How does garbage collection work in the JVM?",
        "Explain how a B-tree index speeds up range queries.",
        "Why is my API answering with status 502 behind the proxy?",
        "How do I set memory limits for a container?",
        "What does the error connection reset by peer mean?",
        "How do I restore a backup of the cluster to another region?",
        "Which cipher suites should a server allow today?",
        "How does OAuth refresh token rotation work?",
        "My build fails with a linker error about an undefined symbol.",
        "How can I debug a memory leak in production?",
        "What happens when a TCP window is full?",
        "Explain eventual consistency and when it is a problem.",
        "How do I enable replication and monitor its lag?",
        "Why is the query planner not using my index?",
        "Compute the resonance frequency of this circuit.",
        "How do I rotate the encryption keys of the storage service?",
    ),
    "complex": (
        "Compare three strategies for entering the Asian market and recommend one with a budget.",
        "Draft a migration plan from our monolith to services, with risks, phases and owners.",
        "Analyse the attached contract and list every clause that disadvantages us, with reasons.",
        "Write an essay on how printing changed politics in Europe.",
        "Plan a two-week trip for a family of five with a limited budget and a wheelchair user.",
        "Summarise the arguments of both sides and judge which is the stronger.",
        "Design a pricing model for our product and discuss the trade-offs.",
        "Review our incident report, find the root causes and propose preventive measures.",
        "Write a short story in the voice of an old lighthouse keeper.",
        "Evaluate whether we should buy or build this system, considering cost, time and risk.",
        "Prepare a negotiation strategy for the renewal with our largest supplier.",
        "Discuss the ethical implications of predictive policing from several perspectives.",
        "Develop a curriculum for a one-year course, including assessments.",
        "Given these constraints, schedule the ten teams so that no one travels twice in a row.",
        "Assess the financial health of the company from these three annual reports.",
        "Research the competitors, compare their offers and suggest how we should position ourselves.",
        "Write a speech for the anniversary that honours the founders without hiding the failures.",
        "First outline the problem, then weigh the options, and finally recommend next steps.",
        "Critique this research proposal and suggest a better methodology.",
        "Create a detailed business plan for a bakery with three branches.",
    ),
    "code_gen": (
        "Write a Python script that renames all files in a folder by their date.",
        "Implement a rate limiter in Go with a token bucket.",
        "Refactor this class to use dependency injection.",
        "Generate a SQL query that finds the top ten customers of each month.",
        "Write unit tests for the following function.",
        "Create a React component that shows a sortable table.",
        "Fix the bug in this code: for i in range(len(a)): a.pop(i)",
        "Convert this JavaScript function to TypeScript.",
        "Write a bash one-liner that counts unique visitors in the log.",
        "Implement binary search in Rust and return the insertion point.",
        "Add error handling and type hints to this method.",
        "Write a regular expression that matches ISO dates.",
        "Build a REST endpoint in FastAPI that uploads a picture.",
        "Complete the function below so that the tests pass.",
        "Write a Dockerfile for a Node application with a multi-stage build.",
        "Create a class for a thread-safe queue in Java.",
        "Port this loop to numpy so that it is vectorised.",
        "Write a Kubernetes manifest for a deployment with two replicas.",
        "Generate C++ code for a linked list with an iterator.",
        "Write a function that parses a CSV file without any library.",
    ),
}


def label(corpus: Corpus, short_texts: list[str]) -> tuple[list[str], list[int]]:
    """Gather texts and their labels' numbers: the corpus, short service questions, and our sentences."""
    gathered: dict[str, dict[str, None]] = {name: {} for name in LABELS}
    for text in short_texts:
        gathered["simple_faq"].setdefault(text)
    for name, text in _from_corpus(corpus):
        gathered[name].setdefault(text)
    texts: list[str] = []
    labels: list[int] = []
    for number, name in enumerate(LABELS):
        found = list(gathered[name])
        chosen = found[:: max(1, -(-len(found) // MAX_PER_LABEL))]
        chosen += _SENTENCES[name] * REPETITIONS
        texts += chosen
        labels += [number] * len(chosen)
    return texts, labels


def _from_corpus(corpus: Corpus) -> Iterator[tuple[str, str]]:
    for source, prompt in zip(corpus.sources, corpus.prompts, strict=True):
        text = _OPTIONS.sub("", prompt)
        category = source.rsplit("/", 1)[1]
        if category in _CODE:
            yield "code_gen", text
        elif category in _FACTS:
            yield "simple_faq", text
        elif _COMPLEX.search(source):
            yield "complex", text
        elif _TECHNICAL.search(source):
            yield "technical", text
