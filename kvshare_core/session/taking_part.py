"""Which evaluations of a model call share, and which are read for the subjects' masks."""

from ..forward.forward import Batch
from ..plan.schedule import Evaluation
from ..plan.share_plan import SharePlan
from ..plan.stages import Stages
from ..subject.tracker import SubjectTracker
from .model_pass import ModelPass


class PromptNeededError(Exception):
    """A forward shares by masks that only the forward with the prompt finds, and that one has not run yet."""


class TakingPart:
    """Answers for the current model call of one run."""

    def __init__(self, plan: SharePlan, stages: Stages, tracker: SubjectTracker):
        self.model_pass: ModelPass | None = None
        """The current model call; None before the first one."""
        self.trusted = True
        """Whether the model's attention calls can be told."""
        self.prompt_apart = False
        """Whether the list with the prompt is evaluated by itself, before the others."""
        self._plan = plan
        self._stages = stages
        self._tracker = tracker

    @property
    def now(self) -> ModelPass | None:
        """The current model call, if the model's attention calls can be told."""
        return self.model_pass if self.trusted else None

    def in_sharing(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation gives or takes keys. The effect of words is measured without sharing."""
        shares = self.now is not None and evaluation.role != "plain" and (self.now.shares or self._stages.early)
        return shares and not self.in_effects(evaluation.segment.index)

    def in_maps(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation's attention maps count for the subjects' masks."""
        if self.now is None or not self.now.finds_subjects:
            return False
        return not self._tracker.per_block or self.in_sharing(evaluation)

    def in_effects(self, index: int) -> bool:
        """Whether the current pass finds the subjects of segment `index` by the effect of their words."""
        return self.now is not None and self.now.finds_subjects and self._tracker.wants_effects(index)

    def attends(self, now: ModelPass, evaluation: Evaluation) -> bool:
        """Whether in a model call a segment is to attend to others, once its subjects are found."""
        index = evaluation.segment.index
        takes = now.shares and evaluation.role in ("both", "target")
        return takes and bool(self._plan.sources(index)) and now.strengths[index] > 0

    def check_order(self, evaluation: Evaluation, batch: Batch, met_prompt: bool) -> None:
        """Raises PromptNeededError, once in a run, for a batch that comes before the prompt although its masks are
        those of the prompt. met_prompt: whether the prompt of the running evaluation has been there."""
        if self.prompt_apart or met_prompt or batch.prompts is None or batch.conditional_rows is not None:
            return
        if self._tracker.per_block and batch.alone and self.in_maps(evaluation):
            self.prompt_apart = True
            raise PromptNeededError
