"""Parts that several heads are made of; none of them knows a head."""
