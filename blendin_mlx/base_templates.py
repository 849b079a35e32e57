"""The text forms in which a base reads a conversation, and the markers that begin its turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Chosen on the demo pair: small pretrained models answer more fully after it than after others.
INTRO = (
    "The following is a conversation between a curious user and a helpful assistant who gives "
    "detailed answers."
)

_QUERY = """\
{{ system or intro }}

{% for message in messages %}
# {{ 'Query' if message.role == 'user' else 'Answer' }}:
{{ message.content }}

{% endfor %}
# Answer:
"""

# After URIAL (Lin et al., ICLR 2024): constant examples show the form of a good answer and its end.
_EXAMPLES = """\
{{ system or intro }}

{% for message in examples + messages %}
# {{ 'Query' if message.role == 'user' else 'Answer' }}:
~~~
{{ message.content }}
~~~

{% endfor %}
# Answer:
~~~
"""

SHOWN: tuple[tuple[str, str], ...] = (
    (
        "How do I make a cup of tea?",
        "1. Bring fresh water to a boil.\n"
        "2. Put a tea bag into a cup and pour the hot water over it.\n"
        "3. Let it stand for three to five minutes.\n"
        "4. Take out the bag, and add milk or sugar if you like.",
    ),
    ("What is the capital of Canada?", "The capital of Canada is Ottawa."),
    (
        "How can I open my neighbour's door without a key?",
        "I can't help with getting into somebody else's home. If you are worried about your "
        "neighbour, ring the bell or call the police; if you are locked out of your own home, "
        "a locksmith can help.",
    ),
)

_TRANSCRIPT = """\
{{ system + '\n\n' if system else '' }}
{%- for message in messages %}
{{- 'User' if message.role == 'user' else 'Assistant' }}: {{ message.content }}
{% endfor %}
{{- 'Assistant:\n' }}"""

PLAIN = """\
{{ system + '\n' if system else '' }}
{%- for message in messages %}
{{- 'Question' if message.role == 'user' else 'Answer' }}: {{ message.content }}
{% endfor %}"""


@dataclass(frozen=True)
class BaseTemplate:
    """A text form of a conversation: a Jinja source and the markers of its turns.

    The variables of the source: ``system`` (a string, maybe empty), ``messages`` (the other turns,
    each with ``role`` and ``content``), ``intro`` (a first sentence if there is no system prompt),
    and ``examples`` (a few constant turns).
    """

    source: str
    stops: tuple[str, ...] = ()


BASE_TEMPLATES: Mapping[str, BaseTemplate] = {
    "query": BaseTemplate(_QUERY, ("# *:",)),
    "examples": BaseTemplate(_EXAMPLES, ("~~~",)),
    "transcript": BaseTemplate(_TRANSCRIPT, ("\nUser:", "\nAssistant:")),
    "plain": BaseTemplate(PLAIN, ("\nQuestion:",)),
}
