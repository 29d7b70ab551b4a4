"""A receiver for Cellcast's SMS webhooks: stores, shows and announces what Cellcast says."""
