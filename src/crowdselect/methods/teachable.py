"""What the student can learn next: rows that models like it manage and that it misses, drawn at random."""

from typing import Literal

from crowdselect.errors import ShapeError
from crowdselect.methods import check_known
from crowdselect.methods.easy import drawn_by, easy_weights
from crowdselect.numeric.teachable import chance
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen

Form = Literal["plain"]


def teachable(*, form: Form | None = None) -> Method:
    """Draw rows with a chance in proportion to p^2 (1 - q), where some answer of the crowd is good, else 0.

    q is the share of the student's answers that are good; p is what the crowd's success on the row predicts for q, by a
    regression over the pool in which no row predicts itself. In words: good enough, within reach, and missed. `score` is the
    draw, higher = chosen earlier; rows of weight 0 come last, the easiest for the crowd first.

    Args:
        form: "plain" takes the crowd's ease in place of p.

    Raises:
        OptionError: The form is unknown.

    Example:
        >>> teachable(form="plain").settings["form"]
        'plain'
    """
    if form is not None:
        check_known("form", form, Form)

    def score(seen: Seen, _progress: Progress) -> Scored:
        reach = seen.known.reached
        if reach.student_good is None or reach.within_reach is None:
            raise ShapeError("the rows were looked at without a student")
        if reach.good_everywhere:
            note = (
                "the student's answers are good everywhere, so rows are drawn as `method='easy'` draws them"
            )
            return drawn_by(seen, easy_weights(reach), "are easy and sure", note)
        should = reach.ease if form == "plain" else reach.within_reach
        return drawn_by(seen, chance(should, reach.student_good, reach.sure), "are within reach and missed")

    arguments = {} if form is None else {"form": form}
    return Method(name="teachable", arguments=arguments, score=score, good=True, student=True)
