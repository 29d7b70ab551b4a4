from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("cellcast_django", "0001_initial")]

    operations = [
        migrations.AddField("message", "campaign", models.CharField(max_length=64, null=True)),
        migrations.AddField("message", "segments", models.PositiveIntegerField(db_default=1)),
        migrations.AddField("handlercall", "host", models.CharField(max_length=64, db_default="")),
        migrations.AddIndex("message", models.Index(fields=["campaign", "id"], name="following")),
    ]
