"""What a model must satisfy before it may be the champion."""
