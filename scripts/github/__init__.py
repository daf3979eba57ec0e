"""GitHub's side: environments as data, the plan that makes GitHub like it, failure issues, release notes."""
