"""A hub that serves the listings API beside the platform's: ``python serving.py <root of the project> <requests>``.

`requests`: those of a key in a minute."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

    from hub.dialects.listings.context import MOST_REGISTRATIONS, ListingsContext
    from hub.dialects.listings.routes import ListingsDialect
    from hub.http.origins import Origins
    from hub.running import Hub
    from hub.serve import serve
    from hub.settings import Settings
    from tests.listings.fake_images import FakeImageFiles, FakeRegistration
    from tests.listings.fakes import FakeKeys, FakeStores, FakeThrottle

    most = int(sys.argv[2])

    def make_listings(hub: Hub, origins: Origins) -> ListingsDialect:
        context = ListingsContext(
            settings=hub.settings,
            engine=hub.engine,
            registry=hub.registry,
            entities=hub.entities,
            keys=FakeKeys(hub.engine, hub.resolver),
            count_request=FakeThrottle(most, 60),
            count_registration=FakeThrottle(MOST_REGISTRATIONS, 3600),
            stores=FakeStores(),
            images=FakeImageFiles(hub.entities),
            registration=FakeRegistration(hub.engine),
        )
        hub.followers.append(context.lookups)
        return ListingsDialect(context)

    sys.exit(serve(Settings(), [make_listings]))
