"""What strangers wrote and what nobody may read: `foreign` configurations, what is `harmless` in them, `secrets`."""
