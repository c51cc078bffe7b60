"""The listings API's bodies in Django REST framework itself: models of the same fields, on SQLite in memory, and their
serializers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal
from functools import cache
from typing import Any, TypeVar

from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connection, models
from django.http import QueryDict
from starlette.datastructures import UploadFile

from hub.dialects.listings import fields
from hub.dialects.listings import serializers as ours
from tests.listings.drf_app import serializers  # that module configures Django, which must come first

T = TypeVar("T")

LABEL = "listings_in_django"
ROOMS = MaxValueValidator(2_147_483_647)
FROM_ZERO = MinValueValidator(0)


class Currency(models.Model):
    code = models.CharField(max_length=3, unique=True)

    class Meta:
        app_label = LABEL


class Sluggish(models.Model):
    slug = models.SlugField(unique=True)

    class Meta:
        app_label = LABEL
        abstract = True


class PropertyType(Sluggish):
    pass


class District(Sluggish):
    pass


class Amenity(Sluggish):
    pass


def choices(options: Iterable[str]) -> list[tuple[str, str]]:
    return [(option, option.title()) for option in options]


class Property(models.Model):
    title = models.CharField(max_length=255)
    description = models.TextField(blank=True, default="", max_length=100_000)
    price = models.DecimalField(max_digits=15, decimal_places=2, validators=[FROM_ZERO])
    currency = models.ForeignKey(Currency, models.PROTECT)
    property_type = models.ForeignKey(PropertyType, models.PROTECT)
    listing_type = models.CharField(max_length=10, choices=choices(ours.LISTING_TYPES))
    location = models.CharField(max_length=255, blank=True, default="")
    district = models.ForeignKey(District, models.PROTECT)
    latitude = models.DecimalField(max_digits=9, decimal_places=6, null=True, blank=True)
    longitude = models.DecimalField(max_digits=9, decimal_places=6, null=True, blank=True)
    bedrooms = models.PositiveIntegerField(null=True, blank=True, validators=[FROM_ZERO, ROOMS])
    bathrooms = models.PositiveIntegerField(null=True, blank=True, validators=[FROM_ZERO, ROOMS])
    floor_size = models.DecimalField(max_digits=15, decimal_places=2, null=True, blank=True, validators=[FROM_ZERO])
    plot_size = models.DecimalField(max_digits=15, decimal_places=2, null=True, blank=True, validators=[FROM_ZERO])
    furnished = models.CharField(max_length=20, choices=choices(ours.FURNISHED), default="unfurnished")
    publish_status = models.CharField(max_length=20, choices=choices(ours.PUBLISH_STATUSES), default="published")
    availability = models.CharField(max_length=20, choices=choices(ours.AVAILABILITIES), default="available")
    amenities = models.ManyToManyField(Amenity, blank=True)
    youtube_video_id = models.CharField(max_length=2_000, blank=True, default="")

    class Meta:
        app_label = LABEL


class Coordinate(serializers.DecimalField):
    """Rounds what has more places, before digits are counted."""

    def validate_precision(self, value: Decimal) -> Decimal:
        if value.as_tuple().exponent < -self.decimal_places:
            value = value.quantize(Decimal("0.000001"), context=Context(prec=5_000))
        return super().validate_precision(value)


def by_slug(model: type[models.Model], field: str = "slug", **more: Any) -> serializers.SlugRelatedField:
    return serializers.SlugRelatedField(slug_field=field, queryset=model.objects.all(), **more)


class PropertySerializer(serializers.ModelSerializer):
    currency = by_slug(Currency, "code")
    property_type = by_slug(PropertyType)
    district = by_slug(District)
    amenities = by_slug(Amenity, many=True, required=False)
    latitude = Coordinate(9, 6, min_value=-90, max_value=90, required=False, allow_null=True)
    longitude = Coordinate(9, 6, min_value=-180, max_value=180, required=False, allow_null=True)

    class Meta:
        model = Property
        fields = tuple(ours.LISTING.fields)

    def validate_youtube_video_id(self, value: str) -> str:
        return cleaned(ours.youtube_id, value) if value else value


class NewImageSerializer(serializers.Serializer):
    image = serializers.FileField(required=False)
    external_url = serializers.CharField(required=False, max_length=2_000)
    is_main = serializers.BooleanField(required=False)
    alt = serializers.CharField(required=False, allow_blank=True, max_length=255)

    def validate_external_url(self, value: str) -> str:
        return cleaned(ours.web_address, value)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("image" in attrs) == ("external_url" in attrs):
            raise serializers.ValidationError(ours.BOTH_OR_NEITHER)
        return attrs


class ChangedImageSerializer(serializers.Serializer):
    is_main = serializers.BooleanField(required=False)
    alt = serializers.CharField(required=False, allow_blank=True, max_length=255)


class VerificationSerializer(serializers.Serializer):
    username = serializers.CharField(max_length=1_000)
    api_key_name = serializers.CharField(max_length=100)
    code = serializers.CharField(max_length=100)


def cleaned(clean: Any, value: str) -> str:
    """Apply a check of the hub's own, which the framework does not have."""
    try:
        return str(clean(value))
    except fields.Invalid as refusal:
        raise serializers.ValidationError(refusal.texts) from None


REFERENCES = {
    "currencies": ("UGX", "USD"),
    "property_types": ("bungalow", "5", "flat"),
    "districts": ("kampala", "wakiso"),
    "amenities": ("parking", "swimming-pool", "None", "gym"),
}
MODELS = {"currencies": Currency, "property_types": PropertyType, "districts": District, "amenities": Amenity}


def open_database() -> None:
    with connection.schema_editor() as editor:
        for model in (*MODELS.values(), Property):
            editor.create_model(model)
    for kind, keys in REFERENCES.items():
        name = "code" if kind == "currencies" else "slug"
        MODELS[kind].objects.bulk_create(MODELS[kind](**{name: key}) for key in keys)


def close_database() -> None:
    with connection.schema_editor() as editor:
        for model in (Property, *MODELS.values()):
            editor.delete_model(model)


def form_of(pairs: Iterable[tuple[str, Any]]) -> QueryDict:
    """Return form data: texts, and files after them."""
    form = QueryDict(mutable=True)
    for name, value in pairs:
        form.appendlist(name, value)
    return form


def as_sent(value: Any) -> Any:
    """Return what was found as it can be sent: the framework fails to send lone surrogates, the hub escapes them."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {name: as_sent(inner) for name, inner in value.items()}
        case list() | tuple():
            return [*map(as_sent, value)]
        case SimpleUploadedFile(name=name) | UploadFile(filename=name):
            return name
    return value


Outcome = tuple[str, Any]
"""``("errors", {field: texts})`` or ``("values", {field: canonical value})``."""


@cache
def made(kind: type[serializers.Serializer], *, partial: bool) -> serializers.Serializer:
    """Return a serializer of this kind, whose fields are made once: that takes most of the time otherwise."""
    return kind(data=None, partial=partial)


def outcome(kind: type[serializers.Serializer], body: Any, *, partial: bool = False) -> Outcome:
    """Return what the framework says of a body that is an object or a form."""
    try:
        found = made(kind, partial=partial).run_validation(body)
    except serializers.ValidationError as error:
        return "errors", {name: [str(text) for text in texts] for name, texts in error.detail.items()}
    return "values", {name: canonical(value) for name, value in found.items()}


def outcome_of_any(kind: type[serializers.Serializer], body: Any, *, partial: bool = False) -> Outcome:
    """Return what the framework says of a body of any type, as it answers."""
    serializer = kind(data=body, partial=partial)
    if serializer.is_valid():
        return "values", {name: canonical(value) for name, value in serializer.validated_data.items()}
    return "errors", {name: [str(text) for text in texts] for name, texts in serializer.errors.items()}


def canonical(value: Any) -> Any:
    """Return a validated value in the form that the hub stores."""
    match value:
        case Decimal():
            return f"{value:f}" if value else f"{abs(value):f}"
        case Currency():
            return value.code
        case Sluggish():
            return value.slug
        case list():
            return list(dict.fromkeys(map(canonical, value)))
    return value


_thread = ThreadPoolExecutor(1)


def apart(call: Callable[..., T], *args: Any) -> T:
    """Return the result of a call in a thread without an event loop: within a loop, Django has one connection for each
    task, and so one database."""
    return _thread.submit(call, *args).result()


def answer(content: bytes, content_type: str) -> tuple[int, Any]:
    """Return the status and the errors, or the values, with which the framework answers a body that is posted."""
    from rest_framework.exceptions import APIException
    from rest_framework.parsers import FormParser, JSONParser, MultiPartParser
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    request = APIRequestFactory().generic("POST", "/", content, content_type)
    try:
        data = Request(request, parsers=[JSONParser(), FormParser(), MultiPartParser()]).data
    except APIException as error:
        return error.status_code, {"detail": str(error.detail)}
    kind, found = outcome_of_any(PropertySerializer, data)
    return (201, found) if kind == "values" else (400, as_sent(found))
