"""Our migrations and one more, as a later release may have it: until there is one."""

import cellcast_django.migrations

__path__ = [*__path__, *cellcast_django.migrations.__path__]
