"""What Django needs for a page of jobs in its admin: a model without a table, for permissions."""

from django.db import models


class QueuedJob(models.Model):
    """A job of Nuvom's store, which Django's database knows nothing of."""

    id = models.CharField(primary_key=True, max_length=200)

    class Meta:
        """No table is made; the permissions are those of the admin's pages."""

        managed = False
        verbose_name = "job"
        verbose_name_plural = "jobs"
        default_permissions = ()
        permissions = (
            ("view_job", "Can view jobs"),
            ("retry_job", "Can run jobs again"),
            ("cancel_job", "Can cancel jobs"),
        )

    def __str__(self) -> str:
        return str(self.id)
