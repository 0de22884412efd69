"""What is asked of a framework, by the ids that docs/frameworks.md gives."""

from dataclasses import dataclass

TRAINS = frozenset({"train"})
MEASURES = frozenset({"validate"})
EMBEDS = frozenset({"embed", "embed_faces"})
LOOKS = frozenset({"infer", "embed", "detect_faces", "embed_faces"})
"""Kinds of jobs that go through images."""

ANY = frozenset[str]()


@dataclass(frozen=True)
class Rule:
    """One thing that is asked."""

    text: str
    kinds: frozenset[str] = ANY
    """It is asked of frameworks that run one of these kinds of jobs; empty: of all."""


RULES = {
    "F1": Rule("the manifest is read in a fresh process without a heavy package or a thread"),
    "F2": Rule("the manifest is valid, and names the framework, kinds and tasks that there are"),
    "F3": Rule("each model has a name of its own, and does tasks and kinds of the manifest"),
    "F4": Rule("each hyperparameter has a name of its own, a type, and a default within its range"),
    "F5": Rule("preload leaves one thread, no gRPC and no GPU context: the process can be forked"),
    "F6": Rule("a good job succeeds with the environment that the agent gives: without credentials"),
    "F7": Rule("a job that is forked after preload goes as one in a fresh process"),
    "F8": Rule("run returns, the process ends at once, and no thread and no process of it is left"),
    "F9": Rule("every event is valid, and one that a job process may send"),
    "F10": Rule("a model that is not known is refused as the user's error, UNKNOWN_MODEL", TRAINS),
    "F11": Rule("a hyperparameter that is not known or out of range is refused as the user's error"),
    "F12": Rule("a dataset that is not there is refused as the user's error, in words", TRAINS | MEASURES),
    "F13": Rule("a checkpoint that is absent or damaged is refused as the user's error, in words"),
    "F14": Rule("stages come in order, that of the work before its first result"),
    "F15": Rule("epochs are told from 1 to the last, each once, with the total", TRAINS),
    "F16": Rule("metrics have canonical names and are no infinity; the primary one is there", TRAINS),
    "F17": Rule("best and last are announced as checkpoints with their epoch; last is resumable", TRAINS),
    "F18": Rule("a file is whole when it is announced, and is replaced, not written to, afterwards"),
    "F19": Rule("the result of a training is what its epochs said", TRAINS),
    "F20": Rule("it looks for a stop at least with every batch", TRAINS),
    "F21": Rule("after a stop it tells no further epoch, ends cancelled, and leaves what there is", TRAINS),
    "F22": Rule("a resumed training goes on at the next epoch, and ends as one never stopped", TRAINS),
    "F23": Rule("the same seed gives the same metrics, where the framework says so", TRAINS),
    "F24": Rule("a validation counts all images, each in its class", MEASURES),
    "F25": Rule("images are answered in order of index, each once, from FIRST_IMAGE_INDEX", LOOKS),
    "F26": Rule("an image that cannot be read is an error entry, and the others go on", LOOKS),
    "F27": Rule("boxes lie within the image, confidences in [0, 1], classes among the names", LOOKS),
    "F28": Rule("the totals of the images are right", LOOKS),
    "F29": Rule("a vector is a file of float32 of the announced length, 1 long if asked for", EMBEDS),
    "F30": Rule("inputs stay as they are, and nothing is left outside of OUTPUT_PATH"),
    "F31": Rule("nothing is asked of the network"),
}


class Broken(Exception):
    """A rule is not kept."""

    def __init__(self, rule: str, what: str) -> None:
        """`what` was seen instead."""
        super().__init__(f"{rule} ({RULES[rule].text}): {what}")
        self.rule, self.what = rule, what


class NotChecked(Exception):
    """A rule could not be looked at, because another one is not kept."""


def expect(true: object, rule: str, what: str) -> None:
    """Raise Broken unless `true`."""
    if not true:
        raise Broken(rule, what)
