"""Words that the conversations are made of. One word in seven is held out: no training text contains it."""
import string

_WORDS = """
apple river stone cloud green tiger paper music window garden silver yellow orange planet rocket coffee butter summer
winter spring forest island bridge castle dragon flower mirror pencil button carpet basket ladder hammer bottle candle
circle square triangle ocean desert valley mountain thunder lightning rain snow wind fire water earth metal wood glass
cotton leather velvet marble copper iron gold pearl ruby amber coral lemon cherry grape melon peach plum olive onion
pepper salt sugar honey bread cheese rice bean corn soup cake pie tea milk juice dog cat horse rabbit turtle eagle
falcon pigeon salmon whale shark wolf bear fox deer mouse spider beetle ant bee red blue black white brown purple pink
grey happy quiet brave clever gentle proud lucky calm bright run jump swim read write sing dance build paint cook drive
sleep dream laugh smile think learn teach help play table chair lamp door wall floor roof kitchen bedroom hallway attic
cellar fence gate path road street corner market shop bakery library museum theatre station harbour airport tower
village city country border coast beach cliff cave hill meadow field farm barn orchard vineyard pond lake stream
waterfall glacier volcano canyon jungle prairie swamp harvest season morning evening midnight noon sunrise sunset moon
star comet galaxy gravity energy engine wheel pedal brake mirrorball bicycle tractor wagon carriage sailboat ferry
anchor compass map journey travel ticket suitcase passport camera lens picture frame canvas brush colour crayon statue
melody rhythm chorus guitar violin piano trumpet flute drum concert ballet opera poem novel chapter sentence letter
word number digit symbol riddle puzzle answer question lesson school teacher student notebook eraser ruler chalk
science physics chemistry biology history geography language grammar logic reason memory wisdom courage honour justice
freedom peace friendship kindness patience promise secret silence whisper echo shadow sparkle glitter feather wing
nest egg chick puppy kitten foal lamb goat sheep cow bull donkey camel elephant giraffe zebra lion leopard panther
monkey gorilla kangaroo koala panda otter beaver badger hedgehog squirrel hamster lizard snake crocodile frog toad
dolphin octopus lobster crab shrimp oyster seahorse penguin ostrich peacock parrot canary sparrow robin raven owl hawk
heron stork swan goose duck chicken turkey butterfly dragonfly moth cricket ladybug worm snail oak maple birch willow
cedar pine elm poplar bamboo palm fern moss ivy rose tulip daisy lily orchid violet sunflower clover thistle mint
basil parsley sage thyme rosemary ginger garlic cinnamon vanilla chocolate caramel biscuit pancake waffle omelette
sandwich salad noodle dumpling sausage bacon steak potato tomato carrot cabbage spinach lettuce cucumber pumpkin
celery radish turnip walnut almond hazelnut peanut raisin apricot banana mango papaya coconut pineapple strawberry
raspberry blueberry cranberry shirt trousers jacket coat sweater scarf glove mitten sock shoe boot sandal slipper belt
ribbon necklace bracelet earring crown helmet shield sword arrow spear lantern torch blanket pillow mattress curtain
towel soap bucket broom sponge needle thread scissors fabric pattern pocket zipper collar sleeve wallet purse coin
bank money price bargain gift parcel envelope stamp postcard newspaper magazine radio telephone computer keyboard
screen printer cable battery switch signal satellite robot machine factory workshop tool wrench pliers nail screw bolt
spring drill saw plank brick cement tile pipe tap sink bathtub mirrorlake oven stove kettle pan spoon fork knife plate
bowl cup mug saucer tray napkin apron recipe flavour crumb slice portion dinner lunch breakfast picnic feast party
birthday holiday festival carnival parade balloon firework ribbonfish doctor nurse farmer sailor pilot baker butcher
tailor painter sculptor writer singer dancer actor juggler magician knight king queen prince princess wizard giant
dwarf pirate hunter shepherd miner blacksmith carpenter gardener fisherman captain soldier general guard judge lawyer
mayor neighbour cousin uncle aunt nephew brother sister father mother grandmother child baby friend stranger visitor
guest hero champion winner runner climber swimmer rider walk hop skip crawl climb fly float dive sail row push pull
lift carry throw catch kick roll spin bend stretch shake wave point nod bow kneel whistle hum shout talk listen watch
look find lose hide seek open close lock wash clean sweep polish mend repair break cut fold wrap tie knot measure
weigh count add divide draw sketch carve print publish plant grow water pick gather store share trade borrow lend give
take send bring fetch keep save spend waste begin finish continue stop wait hurry rest wake breathe eat drink taste
smell touch feel hope wish wonder guess decide choose agree argue explain describe remember forget forgive trust large
small tall short wide narrow thick thin heavy light fast slow early late young old new ancient modern simple complex
easy hard soft rough smooth sharp dull warm cool hot cold wet dry full empty rich poor strong weak loud noisy sweet
sour bitter salty spicy fresh stale clean dirty tidy messy safe dangerous curious careful careless cheerful gloomy
honest polite rude generous greedy humble modest noble loyal patient eager lazy busy sleepy hungry thirsty angry
afraid surprised excited bored nervous jealous grateful hopeful lonely famous unknown common rare special ordinary
strange magic golden wooden frozen broken hidden forgotten endless perfect crystal crimson scarlet turquoise indigo
lavender ivory ebony emerald sapphire diamond topaz opal jade quartz granite slate sandstone limestone clay dust mud
sand pebble boulder ridge summit slope plateau horizon breeze storm tornado hurricane drizzle hail frost icicle mist
fog rainbow dawn dusk twilight eclipse orbit meteor nebula cosmos
"""
_NAMES = """
Clara Tom Anna Ben Lucy Max Nora Paul Emma Leo Mia Noah Ella Finn Ruth Carl Iris Hugo Vera Otto Lena Karl Ida Jan Eva
Rosa Ivan Olga Mark Jane Alice Bob Carol David Frank Grace Henry Irene Jack Kate Liam Mona Nick Owen Peter Quinn Rita
Sam Tina Uma Victor Wendy Zoe Adam Bella Chloe Dora Erik Fiona George Hannah Igor Julia Kevin Laura Martin Nadia Oscar
Pia Ralf Sofia Theo Ursula Vincent Wanda Xenia Yara Zack Agnes Boris Cora Derek Edith Felix Greta Harold Inga Jonas
Kira Lothar Marta Nils Olive Pedro Ramona Stefan Tessa Ulrich Viola Walter Yusuf Amir Bianca Cyrus Daria Emil Farah
Gustav Helga Imran Jasmin Kofi Leila Milan Nina Omar Petra Rashid Selma Tariq Vanessa Yuki Zara
"""
_CITIES = """
Rome Paris London Berlin Madrid Lisbon Vienna Prague Warsaw Oslo Dublin Athens Cairo Tokyo Delhi Lima Boston Denver
Seattle Austin Dallas Miami Milan Turin Naples Lyon Nice Porto Bergen Zurich Geneva Munich Hamburg Krakow Stockholm
Helsinki Copenhagen Amsterdam Brussels Budapest Bucharest Sofia Belgrade Zagreb Riga Vilnius Tallinn Istanbul Ankara
Tehran Baghdad Beirut Jerusalem Nairobi Lagos Accra Dakar Tunis Casablanca Mumbai Bangalore Karachi Dhaka Bangkok Hanoi
Jakarta Manila Singapore Seoul Osaka Kyoto Beijing Shanghai Sydney Melbourne Perth Auckland Toronto Montreal Vancouver
Chicago Houston Phoenix Atlanta Portland Havana Bogota Quito Santiago Montevideo Brasilia Bordeaux Marseille Seville
Valencia Granada Bologna Florence Venice Palermo Salzburg Graz Basel Dresden Leipzig Bremen Cologne Gdansk Kiel
"""
_NOUNS = """
file user order ticket message report invoice photo song playlist event meeting task note contact page product price
stock flight hotel room table timer alarm light door sensor device server branch commit issue comment account payment
image video document folder window process package module route parcel recipe lesson quiz score match player team book
author review rating map station train bus taxi bike weather forecast news article topic poll vote
"""
_VERBS = """
get set find search list show create add make delete remove update change open close start stop run send read write
check count copy move rename print book cancel order play pause record share save load fetch query lookup convert
translate summarize sort filter merge split plan schedule measure compare
"""


_SPOKEN = """
happy answer question remember forget morning evening secret pet city name number word letter story walk friend map song moon
child boat river forest hill tree house home hungry proud lonely brave tired curious help call use said say repeat write add
plus short cloud old built fix bug bad good great hello read run start open close list show get set
"""
"""Words of the fixed sentences, which therefore cannot be held out."""


def _unique(text):
    return list(dict.fromkeys(text.split()))


def _split(text):
    words, spoken = _unique(text), set(_unique(_SPOKEN))
    held = [w for i, w in enumerate(words) if i % 7 == 3 and w not in spoken]
    return [w for w in words if w not in held], held


_TRAINED, _HELD = zip(*map(_split, (_WORDS, _NAMES, _CITIES, _NOUNS, _VERBS)))
_KNOWN = {w.lower() for part in _TRAINED for w in part}
WORDS, NAMES, CITIES, NOUNS, VERBS = _TRAINED
HELD_WORDS, HELD_NAMES, HELD_CITIES, HELD_NOUNS, HELD_VERBS = (
    [w for w in part if w.lower() not in _KNOWN] for part in _HELD)
HELD = {w.lower() for part in (HELD_WORDS, HELD_NAMES, HELD_CITIES, HELD_NOUNS, HELD_VERBS) for w in part}

_STARTS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sm sn sp st str t th tr v w wh y z".split()
_VOWELS = "a a e e i i o o u ai ea ee oo ou".split()
_ENDS = ["", "", "", ""] + "b ck d ft g k l ld ll m n nd ng nt p r rd rk rn s sh sk ss st t th x".split()


def made_up(r):
    """A word nobody has seen: one to three syllables."""
    return "".join(r.choice(_STARTS) + r.choice(_VOWELS) + r.choice(_ENDS) for _ in range(r.choice([1, 2, 2, 3])))


def scrambled(r):
    """Letters in no order, sometimes with digits."""
    letters = string.ascii_lowercase if r.random() < 0.7 else string.ascii_letters + string.digits
    return "".join(r.choice(letters) for _ in range(r.randint(2, 7)))


def number(r):
    return str(r.randint(0, 10 ** r.randint(1, 5) - 1))


class Lexicon:
    """Chooses words: the ones for training, or the held-out ones.

    `pieces` are the vocabulary's letter pieces: words made of them let every piece be copied now and then.
    """

    def __init__(self, held=False):
        self.held, self.pieces = held, []
        self.words, self.names, self.cities = (
            (HELD_WORDS, HELD_NAMES, HELD_CITIES) if held else (WORDS, NAMES, CITIES))
        self.nouns, self.verbs = (HELD_NOUNS, HELD_VERBS) if held else (NOUNS, VERBS)

    def strange(self, r):
        """A word nobody has seen."""
        while True:
            known = self.pieces and r.random() < 0.6
            word = "".join(r.choices(self.pieces, k=r.choice([1, 2, 2, 3]))) if known else made_up(r)
            if word.lower() not in HELD:
                return word

    def word(self, r):
        """A word, in training often a strange one."""
        x = r.random()
        if self.held or x < 0.5:
            return r.choice(self.words)
        return self.strange(r) if x < 0.93 else scrambled(r)

    def name(self, r):
        return r.choice(self.names) if self.held or r.random() < 0.5 else self.strange(r).capitalize()

    def city(self, r):
        return r.choice(self.cities) if self.held or r.random() < 0.5 else self.strange(r).capitalize()

    def phrase(self, r, most=3):
        """One to `most` words, or a number."""
        if r.random() < 0.12:
            return number(r)
        text = " ".join(self.word(r) for _ in range(r.randint(1, most)))
        return text.capitalize() if r.random() < 0.25 else text
