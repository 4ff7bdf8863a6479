"""What callers and agents say in made-up calls, in several languages, with names and numbers in it."""

import random
from dataclasses import dataclass

NAMES = [
    "Anna",
    "Björn",
    "Chloé",
    "Dimitris",
    "Eszter",
    "Fatma",
    "Giulia",
    "Håkon",
    "Ines",
    "Jörg",
    "Kaja",
    "Łukasz",
    "Marta",
    "Niamh",
    "Olga",
    "Paweł",
    "Quentin",
    "Rosa",
    "Søren",
    "Théo",
    "Ursula",
    "Vera",
    "Wim",
    "Yusuf",
    "Zoë",
]
FAMILIES = [
    "Smith",
    "Müller",
    "O'Brien",
    "Garcia",
    "Rossi",
    "Dubois",
    "Novák",
    "Kowalski",
    "Jensen",
    "Papadopoulos",
    "Ivanova",
    "Yılmaz",
    "Nguyen",
    "Okafor",
    "Haddad",
    "Tanaka",
    "D'Angelo",
    "van Dijk",
    "Öztürk",
    "Fernández",
]
CITIES = [
    "Berlin",
    "Köln",
    "Zürich",
    "Paris",
    "Málaga",
    "Athens",
    "Gdańsk",
    "Dublin",
    "Oslo",
    "Leeds",
    "Porto",
    "Turin",
]
THINGS = [
    "bicycle",
    "invoice",
    "parcel",
    "appointment",
    "ticket",
    "deposit",
    "subscription",
    "helmet",
    "contract",
    "key",
    "voucher",
    "warranty",
    "umbrella",
    "prescription",
    "passport",
    "receipt",
    "battery",
    "router",
    "mattress",
    "permit",
    "harpsichord",
    "telescope",
    "aquarium",
    "chandelier",
    "typewriter",
]
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Language:
    """What is said in one language, as templates with `{…}`. `weight` is its relative share of the calls."""

    tag: str
    weight: float
    caller: tuple[str, ...]
    agent: tuple[str, ...]


LANGUAGES = (
    Language(
        "en",
        62,
        (
            "What are your opening hours on {day}?",
            "Hi, this is {name} {family}, I'm calling about my {thing}.",
            "My number is {phone}.",
            "No, no, no. That's not what I said.",
            "Could you tell me where my {thing} is? The order number is {order}.",
            "I'd like to move my appointment from {day} to {day2}, please.",
            "Do you have a shop in {city}?",
            "It costs {price} euros, doesn't it?",
            "Yes, please.",
            "I don't know, I think it was {day} at {hour}.",
            "Can I speak to someone about the {thing}, please?",
            "Thank you, that's all. Goodbye.",
        ),
        (
            "Hello! How can I help you today?",
            "On {day} we are open from {hour} to six.",
            "Thank you, {name}. I have found your {thing}; it is on its way to {city}.",
            "I'm sorry, I didn't catch that. Could you say the number again?",
            "I have noted {phone}. Is that right?",
            "Your order {order} was sent on {day}.",
            "I can offer you {day2} at {hour}. Would that suit you?",
            "The {thing} is {price} euros, delivery included.",
            "Of course. I'll take a message for the {thing} department.",
            "Is there anything else I can do for you?",
            "Thank you for calling. Goodbye!",
        ),
    ),
    Language(
        "de",
        14,
        (
            "Guten Tag, hier ist {name} {family} aus {city}.",
            "Meine Nummer ist {phone}.",
            "Ich möchte meinen Termin am Dienstag verschieben.",
            "Wo bleibt die Lieferung mit der Nummer {order}?",
            "Haben Sie in der Hauptstraße {hour} geöffnet? Mit freundlichen Grüßen ist mir nicht geholfen.",
        ),
        (
            "Guten Tag! Was kann ich für Sie tun?",
            "Vielen Dank. Die Größe ist vorrätig, sie kostet {price} Euro.",
            "Ich habe {phone} notiert. Stimmt das?",
            "Am Samstag schließen wir um {hour}.",
        ),
    ),
    Language(
        "fr",
        9,
        (
            "Bonjour, c'est {name} {family}, j'appelle de l'hôtel à {city}.",
            "Mon numéro, c'est le {phone}.",
            "Je voudrais un éclair au café et un reçu, s'il vous plaît.",
            "Où est ma commande {order} ?",
        ),
        (
            "Bonjour ! Que puis-je faire pour vous ?",
            "L'été, nous fermons à {hour}.",
            "Ça coûte {price} euros.",
        ),
    ),
    Language(
        "es",
        6,
        ("Buenos días, soy {name} {family}.", "Mi número es el {phone}.", "¿Cuánto cuesta? ¿{price} euros?"),
        ("¡Hola! ¿En qué puedo ayudarle?", "Mañana abrimos a las {hour}.", "El pedido {order} salió ayer."),
    ),
    Language(
        "el",
        3,
        ("Καλημέρα σας, πού είναι η παραγγελία {order};", "Ο αριθμός μου είναι {phone}."),
        ("Γεια σας! Πώς μπορώ να βοηθήσω;", "Το κατάστημα κλείνει στις {hour}. Ο Σίσυφος ευχαριστεί."),
    ),
    Language(
        "ru",
        3,
        ("Здравствуйте, это {name}. Где мой заказ {order}?", "Мой номер {phone}, пожалуйста."),
        ("Здравствуйте! Чем могу помочь?", "Ещё раз спасибо. Это стоит {price} евро."),
    ),
    Language(
        "ja",
        2,
        ("もしもし、電話番号は{phone}です。", "注文番号{order}はどこですか。"),
        ("こんにちは。ご用件をどうぞ。", "土曜日は{hour}時まで営業しています。"),
    ),
    Language(
        "ar",
        1,
        ("مرحبا، أين طلبي رقم {order}؟", "رقمي هو {phone}."),
        ("أهلاً وسهلاً! كيف أستطيع مساعدتك؟", "السعر {price} يورو."),
    ),
)


def language(dice: random.Random) -> Language:
    """Return a random language for a call."""
    return dice.choices(LANGUAGES, [each.weight for each in LANGUAGES])[0]


def phone(dice: random.Random) -> str:
    """Return a telephone number in international form, such as "+49301234567"."""
    return f"+{dice.choice(('1', '30', '33', '34', '44', '48', '49'))}{dice.randrange(10**8, 10**9)}"


def spoken_number(dice: random.Random, number: str) -> str:
    """Return a number's digits in groups of one size, as speech-to-text writes dictated numbers."""
    digits, size = number.lstrip("+"), dice.choice((1, 2, 3, 3, len(number)))
    return " ".join(digits[n : n + size] for n in range(0, len(digits), size))


def sentence(dice: random.Random, template: str, number: str) -> str:
    """Return a template filled in; `number` is the caller's."""
    if "{" not in template:
        return template
    day, day2 = dice.sample(DAYS, 2)
    return template.format(
        name=dice.choice(NAMES),
        family=dice.choice(FAMILIES),
        city=dice.choice(CITIES),
        thing=dice.choices(THINGS, range(len(THINGS) ** 2, 0, -len(THINGS)))[0],
        day=day,
        day2=day2,
        hour=dice.randrange(7, 22),
        price=f"{dice.randrange(1, 2500)}.{dice.randrange(100):02}",
        order=dice.randrange(10**6, 10**7),
        phone=spoken_number(dice, number),
    )
