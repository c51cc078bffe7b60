"""The original's framework: the same API of the same models in Django REST framework, to compare answers with.

It has what the document prescribes and leaves everything else to the framework. As a program under a WSGI server it is
what the benchmarks compare the hub with: `DRF_DATABASE` names its SQLite file.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from typing import Any

import django
from django.conf import settings

os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # tests call it from within an event loop

if not settings.configured:
    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DATABASES={
            # One for all connections: within an event loop, Django has one for each task.
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ.get("DRF_DATABASE", "file:drf?mode=memory&cache=shared"),
            }
        },
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework", __name__],
        USE_TZ=True,
        TIME_ZONE="UTC",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        REST_FRAMEWORK={
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
    )
    django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path, re_path
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ReadOnlyModelViewSet

# Models.


class Named(models.Model):
    name = models.CharField(max_length=255)
    slug = models.SlugField(unique=True)

    class Meta:
        abstract = True


class Amenity(Named):
    icon = models.CharField(max_length=255, blank=True)

    class Meta:
        app_label = "drf_app"
        ordering = ("name",)


class PropertyType(Named):
    class Meta:
        app_label = "drf_app"


class Region(Named):
    class Meta:
        app_label = "drf_app"


class District(Named):
    region = models.ForeignKey(Region, models.PROTECT)

    class Meta:
        app_label = "drf_app"


class Currency(models.Model):
    code = models.CharField(max_length=10, unique=True)
    symbol = models.CharField(max_length=10)

    class Meta:
        app_label = "drf_app"


class Property(models.Model):
    owner = models.IntegerField(db_index=True)
    title = models.CharField(max_length=255)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=15, decimal_places=2)
    currency = models.ForeignKey(Currency, models.PROTECT)
    property_type = models.ForeignKey(PropertyType, models.PROTECT)
    listing_type = models.CharField(max_length=20, choices=[("rent", "For Rent"), ("sale", "For Sale")])
    location = models.CharField(max_length=255, blank=True)
    district = models.ForeignKey(District, models.PROTECT)
    latitude = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    longitude = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    bedrooms = models.PositiveIntegerField(null=True)
    bathrooms = models.PositiveIntegerField(null=True)
    floor_size = models.DecimalField(max_digits=15, decimal_places=2, null=True)
    plot_size = models.DecimalField(max_digits=15, decimal_places=2, null=True)
    furnished = models.CharField(max_length=20, default="unfurnished")
    is_verified = models.BooleanField(default=False)
    is_sponsored = models.BooleanField(default=False)
    publish_status = models.CharField(max_length=20, default="published")
    availability = models.CharField(max_length=20, default="available")
    amenities = models.ManyToManyField(Amenity)
    youtube_video_id = models.CharField(max_length=50, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        app_label = "drf_app"
        indexes = (models.Index(fields=["owner", "publish_status", "-created_at"], name="feed"),)


class PropertyImage(models.Model):
    property = models.ForeignKey(Property, models.CASCADE, related_name="images")
    url = models.URLField()
    is_main = models.BooleanField(default=False)
    alt = models.CharField(max_length=255, blank=True)

    class Meta:
        app_label = "drf_app"
        ordering = ("-is_main", "id")


class ApiKey(models.Model):
    owner = models.IntegerField()
    scope = models.CharField(max_length=2)
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        app_label = "drf_app"


MODELS = (Amenity, PropertyType, Region, District, Currency, Property, PropertyImage, ApiKey)


def make_tables() -> None:
    """Create the tables, if they are not there."""
    present = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in MODELS:
            if model._meta.db_table not in present:
                editor.create_model(model)


def moment_of(milliseconds: int) -> datetime:
    """Return the time of an entity of the hub."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


# Access.


class JsonAlone(DefaultContentNegotiation):
    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


APIView.content_negotiation_class = JsonAlone  # the framework reads the setting before this module is complete


class KeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        scheme, _, key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        found = ApiKey.objects.filter(digest=hashlib.sha256(key.encode()).hexdigest()).first()
        if found is None:
            raise AuthenticationFailed("Invalid API key.")
        return found, found

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"


class HasKey(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return request.auth is not None


class IsOwner(BasePermission):
    message = "This API key is not permitted for this tenant or action."

    def has_permission(self, request: Any, view: Any) -> bool:
        may_write = request.auth.scope == "RW" or request.method in SAFE_METHODS
        return may_write and view.kwargs.get("user_id", request.auth.owner) == request.auth.owner


class KeyThrottle(SimpleRateThrottle):
    rate = "120/min"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"key-{request.auth.pk}"


class ClientThrottle(SimpleRateThrottle):
    rate = "10/hour"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"client-{self.get_ident(request)}"


# Shapes.


class NamedSerializer(serializers.Serializer):  # type: ignore[misc]
    name = serializers.CharField()
    slug = serializers.CharField()


class AmenitySerializer(NamedSerializer):
    icon = serializers.CharField()


class CurrencySerializer(serializers.Serializer):  # type: ignore[misc]
    code = serializers.CharField()
    symbol = serializers.CharField()


class ImageSerializer(serializers.ModelSerializer):  # type: ignore[misc]
    class Meta:
        model = PropertyImage
        fields = ("id", "url", "is_main", "alt")


class ListingSerializer(serializers.ModelSerializer):  # type: ignore[misc]
    currency = CurrencySerializer()
    property_type = NamedSerializer()
    region = NamedSerializer(source="district.region")
    district = NamedSerializer()
    amenities = AmenitySerializer(many=True)
    images = ImageSerializer(many=True)

    class Meta:
        model = Property
        fields = (
            "id", "title", "description", "price", "currency", "property_type", "listing_type", "location", "region",
            "district", "latitude", "longitude", "bedrooms", "bathrooms", "floor_size", "plot_size", "furnished",
            "is_verified", "is_sponsored", "publish_status", "availability", "amenities", "images", "youtube_video_id",
            "created_at", "updated_at",
        )  # fmt: skip


class FilterSerializer(serializers.Serializer):  # type: ignore[misc]
    """Checks the parameters of the feed."""

    listing_type = serializers.ChoiceField(["rent", "sale"], required=False)
    min_price = serializers.DecimalField(None, None, required=False)
    updated_after = serializers.DateTimeField(required=False)
    publish_status = serializers.ChoiceField(["published", "draft", "trash", "all"], default="published")


class NewListingSerializer(ListingSerializer):
    """Makes listings from the slugs and codes of what they refer to."""

    currency = serializers.SlugRelatedField("code", queryset=Currency.objects.all())
    property_type = serializers.SlugRelatedField("slug", queryset=PropertyType.objects.all())
    district = serializers.SlugRelatedField("slug", queryset=District.objects.all())
    amenities = serializers.SlugRelatedField("slug", queryset=Amenity.objects.all(), many=True, required=False)
    images = ImageSerializer(many=True, read_only=True)
    region = NamedSerializer(source="district.region", read_only=True)

    class Meta(ListingSerializer.Meta):
        read_only_fields = ("is_verified", "is_sponsored", "created_at", "updated_at")

    def to_representation(self, instance: Any) -> Any:
        return ListingSerializer(instance, context=self.context).data


# Views.


class FeedPagination(CursorPagination):
    page_size = 50
    ordering = ("-created_at", "-id")


class PropertyViewSet(ModelViewSet):  # type: ignore[misc]
    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey, IsOwner)
    throttle_classes = (KeyThrottle,)
    pagination_class = FeedPagination
    serializer_class = ListingSerializer

    def get_serializer_class(self) -> Any:
        return NewListingSerializer if self.action == "create" else ListingSerializer

    def perform_create(self, serializer: Any) -> None:
        now = datetime.now(UTC)
        serializer.save(owner=self.kwargs["user_id"], created_at=now, updated_at=now)

    def get_queryset(self) -> Any:
        related = ("currency", "property_type", "district__region")
        owned = Property.objects.filter(owner=self.kwargs["user_id"])
        return owned.select_related(*related).prefetch_related("amenities", "images")

    def get_object(self) -> Any:
        try:
            return super().get_object()
        except Http404:
            raise NotFound from None  # the text of earlier versions, which name no model

    def filter_queryset(self, queryset: Any) -> Any:
        if self.action != "list":
            return queryset
        parameters = FilterSerializer(data=self.request.query_params.dict())
        parameters.is_valid(raise_exception=True)
        for name, value in parameters.validated_data.items():
            lookup = {"min_price": "price__gte", "updated_after": "updated_at__gte"}.get(name, name)
            queryset = queryset.filter(**{lookup: value})
        return queryset


class ImageViewSet(ModelViewSet):  # type: ignore[misc]
    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey, IsOwner)
    throttle_classes = (KeyThrottle,)
    serializer_class = ImageSerializer

    def get_queryset(self) -> Any:
        return PropertyImage.objects.filter(property=self.kwargs["id"], property__owner=self.kwargs["user_id"])


class AmenityViewSet(ReadOnlyModelViewSet):  # type: ignore[misc]
    authentication_classes = (KeyAuthentication,)
    permission_classes = (HasKey, IsOwner)
    throttle_classes = (KeyThrottle,)
    serializer_class = AmenitySerializer
    queryset = Amenity.objects.all()


class RegisterView(APIView):  # type: ignore[misc]
    authentication_classes = ()
    throttle_classes = (ClientThrottle,)

    def post(self, request: Any) -> Response:
        assert isinstance(request.data, dict)
        return Response({"detail": "If the account exists, a verification code has been emailed."})


def no_endpoint(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"detail": "No such API endpoint."}, status=404)


LISTINGS = "v1/<int:user_id>/properties/"

urlpatterns = [
    path("v1/register/", RegisterView.as_view()),
    path("v1/amenities/", AmenityViewSet.as_view({"get": "list"})),
    path(LISTINGS, PropertyViewSet.as_view({"get": "list", "post": "create"})),
    path(
        LISTINGS + "<int:pk>/",
        PropertyViewSet.as_view({"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}),
    ),
    path(LISTINGS + "<int:id>/images/", ImageViewSet.as_view({"get": "list", "post": "create"})),
    re_path("^v1/.*$", no_endpoint),
]

application = get_wsgi_application()
