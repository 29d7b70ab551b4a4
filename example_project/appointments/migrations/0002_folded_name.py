from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from example_project.appointments.models import folded


def fold(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    appointments = apps.get_model("appointments", "Appointment").objects
    for appointment in appointments.using(schema_editor.connection.alias).all():
        appointment.folded_name = folded(appointment.customer_name)
        appointment.save(update_fields=["folded_name"])


class Migration(migrations.Migration):
    dependencies = [("appointments", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="appointment",
            name="folded_name",
            field=models.CharField(default="", editable=False, max_length=400),
            preserve_default=False,
        ),
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
