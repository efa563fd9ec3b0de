"""Failures, told apart by what helps: fix the input, or try again."""


class PlatformError(Exception):
    """A failure with a message that names what is wrong and what to do about it."""


class PermanentError(PlatformError):
    """Trying again gives the same failure: the input, configuration or code has to change."""


class TransientError(PlatformError):
    """Trying again may work: the outside world was busy, away or raced us."""


class ConflictError(TransientError):
    """Somebody else changed what was to be changed: read it again, then decide again."""


class InterruptedTrainingError(TransientError):
    """The process was told to end while it trained; the rounds until then are saved."""


class SpecError(PermanentError):
    """A use case's description is wrong.

    ``path`` is the field's place in defs.yaml, e.g. ``("datasets", "flights", "key")``.
    """

    def __init__(self, path: tuple[str | int, ...], message: str) -> None:
        super().__init__(f"{'.'.join(str(part) for part in path)}: {message}")
        self.path = path
        self.message = message


class SchemaError(PermanentError):
    """A table does not have the columns or types that its description promises."""


class EmptyPartitionError(PermanentError):
    """A source has no rows for a partition that should have some."""


class MissingPartitionsError(PermanentError):
    """A stage needs partitions that the lake does not have."""


class LeakageError(PermanentError):
    """A training set would let a model see what it cannot know when it is asked."""


class DigestMismatchError(PermanentError):
    """An artifact's bytes are not the ones that were registered."""
