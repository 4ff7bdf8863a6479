"""The WebSocket routes."""

from django.urls import path

from calls.consumers import RustPBXConsumer

websocket_urlpatterns = [path("ws/rustpbx", RustPBXConsumer.as_asgi(), name="rustpbx")]
