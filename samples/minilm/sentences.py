"""English sentences written for this sample: some to calibrate with, others to compare on."""

from __future__ import annotations


def _sentences(text: str) -> tuple[str, ...]:
    """Return one sentence for each line of `text`; an indented line goes on with the one above it."""
    return tuple(text.strip().replace("\n  ", " ").split("\n"))


CALIBRATION = _sentences("""
Rain again.
Where did you park the car?
The kettle whistled before anyone was awake.
Please sign the second page and send it back by Friday.
A heron stood in the shallow water and did not move.
Two of the three bolts were missing when the gate arrived.
My grandmother kept buttons in a blue tin under the stairs.
The train to the coast leaves from platform nine at a quarter past six.
He measured the shelf twice, wrote the number on his hand, and still cut it too short.
Nobody on the committee could remember who had proposed the fountain.
Add the flour slowly, or the sauce will turn to lumps.
She learned the violin in a garage, between a lawn mower and a broken freezer.
The bridge is closed to lorries until the inspection is done.
Interest is paid on the first working day of each quarter.
If the pump runs dry, switch it off at once and wait ten minutes before you start it again.
Our flight was delayed, then moved to another gate, then delayed once more, and in the end we took
  the bus.
The museum keeps its oldest maps in a room without windows, where the air is dry and the lamps are
  dim.
A good umbrella outlives three bad ones.
Seven goats escaped from the farm on the hill, and five of them came home by themselves before
  supper.
The doctor asked how long the cough had lasted, whether it was worse at night, and if anyone else in
  the house had been ill that month.
When the snow finally melted, we found the missing glove, a garden chair, two tennis balls and a
  letter that the postman had dropped in January; the ink had run, but the address could still be
  read.
To change the filter, turn the handle to the left until it clicks, lift out the tray, rinse it under
  cold water without soap, let it dry for an hour, and put it back with the arrow pointing towards
  you.
The village had one shop, one church and three football teams, which is why every Sunday afternoon
  ended in an argument, and why the only sensible shopkeeper for miles around sold flags in all
  three colours.
Prices of copper rose for the fourth week in a row, which traders put down to a strike at two mines,
  low stocks in the ports, and a rumour, denied by everyone who was asked, that a large buyer was
  filling its warehouses ahead of winter.
""")

TEST = _sentences("""
Thank you.
The shop is shut.
How far is it to the lake?
Turn left after the bakery.
The baker sells out before nine.
The bakery is usually empty by nine in the morning.
I have never liked the taste of liquorice.
The last candle burned down just before midnight.
A small dog barked at its own reflection in the window.
A puppy growled at the mirror.
They painted the boat green and named it after their aunt.
The invoice lists twelve chairs, but only ten were delivered.
Two chairs from our order have not arrived yet.
Close the valve before you loosen the upper ring.
The orchestra tuned for so long that some people thought the concert had begun.
Water boils at a lower temperature on a mountain than by the sea.
High up, you need more time to cook an egg.
The new timetable makes no sense to anyone who works nights.
An owl lives in the roof of the old school, and the children leave it alone.
She returned the book eleven years late and paid the fine in coins.
The court found that the fence stood on the neighbour's land.
His handwriting leans so far to the right that the words seem to be running away.
Most of the apples went to the press, and the rest were eaten by wasps.
The battery lasts a day if the screen is dark and half a day if it is not.
Nothing in the instructions says what to do when both lamps blink at the same time.
We walked along the canal until the path ended at a wall with a small locked door in it.
The plumber came on Tuesday, looked at the pipe, shook his head and promised to come back with
  another man.
In spring the river takes a different course, and the farmers draw their borders anew.
The translation is accurate, but it has lost all of the jokes, and without the jokes the play is
  very short.
After the storm the power was out for two days; we cooked on a camping stove and read to each other
  by torchlight.
The committee recommends that the playground be moved to the other side of the park, away from the
  road, where there is more shade in summer.
He kept a list of every bird that he had seen from the kitchen window, with the date, the weather
  and what he had been eating at the time, and after forty years it filled nine notebooks.
Before you ask for a refund, check that the number on the ticket is the number on the receipt, that
  both carry the same date, and that neither has been stamped; the machine at the exit cannot
  correct any of these.
The lighthouse was sold to a retired teacher who wanted quiet, and who had not been told about the
  foghorn, the bus tours, the wedding photographers, or the annual race in which four hundred
  runners climb its stairs dressed as sailors.
At the edge of the desert there is a town where it has rained twice in living memory, and in the
  middle of that town there is a shop that sells nothing but umbrellas; its owner says that business
  is slow, but that he is waiting for the third time.
The survey asked nine hundred households how often they repair things instead of replacing them, and
  the answers differed less between rich and poor than between those who owned a drill and those who
  did not, which the authors had not expected and could not explain.
""")
