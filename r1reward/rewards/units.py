r"""Units of measurement: `5\text{ cm}^2` is 5 and cm^2, "meters per second" is m/s."""

import re

_UNITS = {
    **{"mm": "millimeter", "cm": "centimeter", "dm": "decimeter", "m": "meter", "km": "kilometer"},
    **{"in": "inch", "ft": "foot", "yd": "yard", "mi": "mile", "mph": "", "kmh": "kph", "unit": ""},
    **{"mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound", "oz": "ounce"},
    **{"s": "second sec", "min": "minute", "h": "hour hr", "day": "", "week": "", "month": "", "year": "yr"},
    **{"ml": "milliliter mL", "L": "liter l", "N": "newton", "J": "joule", "W": "watt", "V": "volt", "A": "ampere amp"},
    **{"Pa": "pascal", "Hz": "hertz", "K": "kelvin", "mol": "mole", "rad": "radian", "degree": "deg", "percent": "pct"},
    **{
        "dollar": "USD 美元",
        "cent": "",
        "euro": "EUR 欧元",
        "pound sterling": "GBP 英镑",
        "yen": "JPY 日元",
        "yuan": "CNY RMB 元",
    },
    **{"Ω": "ohm", "celsius": "摄氏度", "fahrenheit": "华氏度"},
}
_CHINESE = {
    "mm": "毫米",
    "cm": "厘米 公分",
    "dm": "分米",
    "m": "米",
    "km": "千米 公里",
    "mg": "毫克",
    "g": "克",
    "kg": "千克 公斤",
}
_CHINESE |= {
    "s": "秒",
    "min": "分钟",
    "h": "小时",
    "day": "天",
    "week": "周",
    "year": "年",
    "ml": "毫升",
    "L": "升",
    "degree": "度",
}
_SQUARES = {"平方米": "m^2", "平方厘米": "cm^2", "平方千米": "km^2", "立方米": "m^3", "立方厘米": "cm^3"}
_IRREGULAR = {"inches": "in", "feet": "ft"}
_NAMES = {spelled: unit for unit, names in _UNITS.items() for spelled in (unit, *names.split())}
_NAMES |= {f"{name}s": unit for name, unit in _NAMES.items() if len(name) > 1} | _IRREGULAR
_NAMES |= {name: unit for unit, names in _CHINESE.items() for name in names.split()}
_NAMES |= {name.replace("meter", "metre").replace("liter", "litre"): unit for name, unit in _NAMES.items()}

_SIGN = re.compile(r"(?:(?P<degree>\^\s*\{?\s*\\circ\s*\}?)|(?P<percent>\\?%))$")
_UNIT = re.compile(
    r"(?<=[0-9)}])(?:\s|~|\\[,;: ])*"
    r"(?:\\(?:text|mathrm|mbox|textrm)\s*\{(?P<wrapped>(?:[^{}]|\{[23]\})*)\}|(?P<bare>[A-Za-z][A-Za-z/. ]+|[一-龥]{1,4}))"
    r"(?P<power>\^?\{?[23]\}?)?$"
)


def split_unit(latex: str) -> tuple[str, str]:
    r"""An expression and its unit: `5\text{ cm}^2` -> `5`, `cm^2`; the unit is empty if there is none that is known.

    A single letter is a unit only as text: `2 m` may be a product.
    """
    if sign := _SIGN.search(latex):
        return latex[: sign.start()].strip(), sign.lastgroup
    found = _UNIT.search(latex)
    wrapped = re.sub(r"~|\\[,;: ]", " ", found["wrapped"] or "") if found else ""
    unit = unit_name((wrapped or found["bare"] or "") + (found["power"] or "")) if found else ""
    return (latex[: found.start()].strip(), unit) if unit else (latex, "")


def unit_name(words: str) -> str:
    """A unit in its short spelling; empty if the words are none: "square feet" -> ft^2, "meters per second" -> m/s."""
    words = re.sub(r"^degrees? (?=[CcFf](?:elsius|ahrenheit)?$)", "°", words.strip())
    if words in _SQUARES:
        return _SQUARES[words]
    if words.startswith("°"):
        return {"c": "celsius", "f": "fahrenheit"}.get(words[1:].strip()[:1].lower(), "degree")
    parts = []
    for part in re.split(r"\s*/\s*|\s+per\s+", words):
        found = re.fullmatch(r"(?:(square|sq|cubic|cu)\.?\s+)?([^\W\d_]+)\.?(?:\^?\{?([23])\}?)?", part)
        name = found and (found[2] if found[2] in _NAMES else found[2].lower())  # CM, Meters
        if name not in _NAMES or (len(name) == 1 and name != found[2]):
            return ""
        power = found[3] or {"s": "2", "c": "3"}.get((found[1] or "-")[0])
        parts.append(_NAMES[name] + (f"^{power}" if power else ""))
    return "/".join(parts)
