"""Tests of the jobs in Django's admin, run by ``manage.py test`` in a project that has it."""

from contextlib import suppress

from django.contrib.auth.models import Permission, User
from django.test import Client, TestCase

import nuvom
from nuvom import Job

HOSTILE = "<script>alert(1)</script>"


@nuvom.task
def fail(text: str, password: str) -> None:
    raise ValueError(text)


class Admin(TestCase):
    """Of what staff with and without permissions see and may do."""

    def setUp(self) -> None:
        with nuvom.local_worker():
            self.failed = fail.delay(HOSTILE, "hunter2")
            with suppress(nuvom.JobFailed):
                self.failed.get(timeout=30)
        self.waiting = fail.options(queue="later").delay("", password="")

    def staff(self, *permissions: str) -> Client:
        user = User.objects.create_user(f"user{len(permissions)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        self.assertEqual(len(permissions), user.user_permissions.count())
        client = Client()
        client.force_login(user)
        return client

    def test_without_the_permission_there_is_nothing_to_see(self) -> None:
        client = self.staff()
        for address in ("", f"{self.failed.id}/"):
            self.assertEqual(403, client.get(f"/admin/nuvom/queuedjob/{address}").status_code)
        self.assertNotContains(client.get("/admin/"), "queuedjob")

    def test_jobs_are_listed_and_shown_with_secrets_masked_and_text_inert(self) -> None:
        client = self.staff("view_job")
        self.assertContains(client.get("/admin/"), "/admin/nuvom/queuedjob/")
        listed = client.get("/admin/nuvom/queuedjob/")
        self.assertContains(listed, self.failed.id)
        self.assertContains(listed, self.waiting.id)
        only = client.get("/admin/nuvom/queuedjob/?status=FAILED")
        self.assertNotContains(only, self.waiting.id)
        shown = client.get(f"/admin/nuvom/queuedjob/{self.failed.id}/")
        for page in (listed, shown):
            self.assertContains(page, "ValueError: &lt;script&gt;")
            self.assertNotContains(page, HOSTILE)
        self.assertNotContains(shown, "hunter2")
        self.assertNotContains(shown, "/retry/")  # no button without its permission
        self.assertEqual(404, client.get("/admin/nuvom/queuedjob/nosuch/").status_code)

    def test_jobs_are_retried_and_cancelled_by_permission_only(self) -> None:
        retry = f"/admin/nuvom/queuedjob/{self.failed.id}/retry/"
        cancel = f"/admin/nuvom/queuedjob/{self.waiting.id}/cancel/"
        viewer = self.staff("view_job")
        self.assertEqual([403, 403], [viewer.post(one).status_code for one in (retry, cancel)])
        client = self.staff("view_job", "retry_job", "cancel_job")
        self.assertEqual(405, client.get(retry).status_code)
        self.assertContains(client.post(retry, follow=True), "It was FAILED")
        self.assertContains(client.post(cancel, follow=True), "It was PENDING")
        self.assertContains(client.post(cancel, follow=True), "Nothing was changed")
        found = [str(Job.load(one.id).status) for one in (self.failed, self.waiting)]
        self.assertEqual(["PENDING", "CANCELLED"], found)

    def test_a_forged_form_is_refused(self) -> None:
        client = self.staff("view_job", "retry_job", "cancel_job")
        client.handler.enforce_csrf_checks = True
        answer = client.post(f"/admin/nuvom/queuedjob/{self.waiting.id}/cancel/")
        self.assertEqual(403, answer.status_code)
