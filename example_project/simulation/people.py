"""The customers of the demo, and what happens to their reminders.

The phone numbers are those that Australia's ACMA reserves for fiction: nobody has them.
"""

from dataclasses import dataclass, field

OUR_NUMBER = "+61491579212"
CHILDRENS_NUMBER = "+61491579760"
"""The clinic's second number, for its children's dentist."""

STRANGER = "+61491579455"

Report = tuple[int, str]
"""Minutes after the reminder, and a status."""

Line = tuple[int, str, str]
"""Minutes after the reminder, ``THEY`` or ``WE``, and a text."""

THEY = "they"
WE = "we"


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A customer who is reminded of an appointment."""

    name: str
    number: str
    hours_ago: float
    """When the reminder is sent."""
    reports: list[Report] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    repeated: int = 1
    """How many times Cellcast sends each webhook."""
    opts_out_after: int = 0
    """Minutes; 0 is never."""
    answers_in_reply: bool = False
    """Whether Cellcast puts the text in ``reply``, as it does for some accounts."""


CUSTOMERS = [
    Customer(
        name="Kim Nguyen",
        number="+61491570006",
        hours_ago=46,
        reports=[(1, "delivered")],
        lines=[(12, THEY, "Yes, I'll come")],
    ),
    Customer(
        name="Oliver Smith",
        number="+61491570156",
        hours_ago=44,
        reports=[(1, "delivered")],
        lines=[
            (31, THEY, "No thanks"),
            (35, WE, "All right, we have cancelled it. Call us for another one."),
        ],
    ),
    Customer(
        name="Priya Patel",
        number="+61491570157",
        hours_ago=41,
        reports=[(2, "delivered")],
        lines=[
            (8, THEY, "not sure yet, can I let you know tonight?"),
            (20, WE, "Of course. A YES or NO by tomorrow is fine."),
            (305, THEY, "YES please 😊"),
        ],
    ),
    Customer(  # right to left, and an emoji of two code points
        name="ليلى حداد",
        number="+61491570158",
        hours_ago=38,
        reports=[(1, "delivered")],
        lines=[(4, THEY, "مرحبا! نعم، سأحضر 👍🏽")],
    ),
    Customer(
        name="Tom Wilson",
        number="+61491570159",
        hours_ago=35,
        reports=[(1, "queued"), (12, "failed")],
    ),
    Customer(  # not the first time that she opts out, and Cellcast reports it twice
        name="Grace Lee",
        number="+61491570110",
        hours_ago=33,
        reports=[(1, "delivered")],
        lines=[(2, THEY, "STOP")],
        opts_out_after=2,
    ),
    Customer(  # an earlier report comes late, and changes nothing
        name="Jack Brown",
        number="+61491570313",
        hours_ago=30,
        reports=[(3, "delivered"), (95, "failed")],
        lines=[(40, THEY, "NOPE can't")],
    ),
    Customer(  # the report is quicker than the send API's response
        name="Mia Rossi",
        number="+61491570737",
        hours_ago=27,
        reports=[(0, "delivered")],
        lines=[(55, THEY, "yes!")],
        answers_in_reply=True,
    ),
    Customer(  # the phone was off
        name="Noah Taylor",
        number="+61491571266",
        hours_ago=22,
        reports=[(240, "expired"), (410, "delivered")],
    ),
    Customer(
        name="Zoë Müller",
        number="+61491571491",
        hours_ago=18,
        reports=[(1, "rejected")],
    ),
    Customer(  # every webhook arrives three times
        name="Arjun Singh",
        number="+61491571804",
        hours_ago=12,
        reports=[(1, "delivered")],
        lines=[(17, THEY, "yep, see you")],
        repeated=3,
    ),
    Customer(  # two replies to one message have the same id
        name="Chloé Martin",
        number="+61491572549",
        hours_ago=6,
        reports=[(1, "delivered")],
        lines=[(3, THEY, "No"), (4, THEY, "Sorry, wrong button: I'm coming!")],
    ),
    # The site is down when Ruby's reminder is delivered, and when she answers.
    Customer(name="Ruby Clark", number="+61491575789", hours_ago=3),
    Customer(name="Sam Walker", number="+61491572665", hours_ago=0.1),  # no report yet
    Customer(  # Ella and Leo answer when the office calendar is down
        name="Ella Jones",
        number="+61491572983",
        hours_ago=2,
        reports=[(1, "delivered")],
    ),
    Customer(name="Leo Fischer", number="+61491573770", hours_ago=1, reports=[(1, "delivered")]),
]
KIM, GRACE = CUSTOMERS[0], CUSTOMERS[5]
RUBY, SAM, ELLA, LEO = CUSTOMERS[-4:]

# They get a notice now and then.
OTHER_NUMBERS = [
    "+61491573087",
    "+61491574118",
    "+61491574632",
    "+61491575254",
    "+61491576398",
    "+61491576801",
    "+61491577426",
    "+61491577644",
    "+61491578957",
    "+61491578148",
    "+61491578888",
]
