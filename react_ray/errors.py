"""Every error that a user can meet. Each message ends with the next thing to do.

ReactRayError
  ConfigError            a recipe or a command line that cannot be meant
  StorageError           a URI that cannot be read or written
  ArtifactError
    ArtifactMissing      a stage was asked for before the stage it needs
    ArtifactMismatch     the directory holds the result of another configuration
    ArtifactCorrupt      bytes on storage are not those that were committed
  BackboneError          a model that cannot be used as the frozen backbone
  RetrievalError
    ShardUnavailable     a shard of the index did not answer
  TrainingDiverged       the loss is no number any more
  SuccessTooLow          too few of the URLs that were asked gave an image
  PartFailed             one part failed after all its retries
  ResourceError          the machine is too small for the plan
  ClusterError           Ray cannot be reached, does not start, or lost a process
  InUse                  another command is writing there

`exit_code` is 2 for what the user can put right and 1 for everything else. A message is one line, whatever it quotes.
"""

from __future__ import annotations


class ReactRayError(Exception):
    exit_code = 2

    def __str__(self) -> str:
        text = super().__str__()
        return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


class ConfigError(ReactRayError):
    """The message names the dotted path of the field and, if one is near, the name that was meant."""


class StorageError(ReactRayError):
    """The message names the verb (read, write, list) and the URI."""


class ArtifactError(ReactRayError):
    pass


class ArtifactMissing(ArtifactError):
    pass


class ArtifactMismatch(ArtifactError):
    """The message shows both values of every field that differs."""


class ArtifactCorrupt(ArtifactError):
    pass


class BackboneError(ReactRayError):
    pass


class RetrievalError(ReactRayError):
    pass


class ShardUnavailable(RetrievalError):
    exit_code = 1


class TrainingDiverged(ReactRayError):
    """The message names the step and pairs of its batch."""


class SuccessTooLow(ReactRayError):
    """The message counts the statuses."""


class PartFailed(ReactRayError):
    exit_code = 1


class ResourceError(ReactRayError):
    pass


class ClusterError(ReactRayError):
    exit_code = 1


class InUse(ReactRayError):
    """The message names who writes there, and since when."""
