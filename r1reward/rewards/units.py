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
    **{"Ω": "ohm"},
}
_CHINESE = {
    "毫米": "mm",
    "厘米": "cm",
    "分米": "dm",
    "米": "m",
    "千米": "km",
    "公里": "km",
    "毫克": "mg",
    "克": "g",
    "千克": "kg",
}
_CHINESE |= {
    "公斤": "kg",
    "秒": "s",
    "分钟": "min",
    "小时": "h",
    "天": "day",
    "周": "week",
    "年": "year",
    "毫升": "ml",
    "升": "L",
}
_CHINESE |= {"度": "degree", "平方米": "m^2", "平方厘米": "cm^2", "平方千米": "km^2", "立方米": "m^3", "立方厘米": "cm^3"}
_IRREGULAR = {"inches": "in", "feet": "ft"}
_NAMES = {spelled: unit for unit, names in _UNITS.items() for spelled in (unit, *names.split())}
_NAMES |= {f"{name}s": unit for name, unit in _NAMES.items() if len(name) > 1} | _IRREGULAR
_NAMES |= {name: unit for name, unit in _CHINESE.items() if "^" not in unit}
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
    if words.strip() in _CHINESE:
        return _CHINESE[words.strip()]
    parts = []
    for part in re.split(r"\s*/\s*|\s+per\s+", words.strip()):
        found = re.fullmatch(r"(?:(square|sq|cubic|cu)\.?\s+)?([^\W\d_]+)\.?(?:\^?\{?([23])\}?)?", part)
        if not found or found[2] not in _NAMES:
            return ""
        power = found[3] or {"s": "2", "c": "3"}.get((found[1] or "-")[0])
        parts.append(_NAMES[found[2]] + (f"^{power}" if power else ""))
    return "/".join(parts)
