
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('proxy', '0002_route_resilience'),
    ]

    operations = [
        migrations.CreateModel(
            name='WorkerState',
            fields=[
                ('name', models.CharField(help_text='Unique to each start.', max_length=60, primary_key=True, serialize=False)),
                ('host', models.CharField(max_length=100)),
                ('worker', models.PositiveIntegerField()),
                ('plane', models.CharField(max_length=10)),
                ('started_at', models.DateTimeField()),
                ('reported_at', models.DateTimeField(db_index=True)),
                ('version', models.BigIntegerField(help_text='Of the configuration in force. Empty: none yet.', null=True)),
                ('problem', models.CharField(blank=True, help_text='Why it follows no newer one.', max_length=300)),
                ('spool_segments', models.PositiveIntegerField(default=0, help_text='In its spool, not shipped yet.')),
                ('spool_bytes', models.BigIntegerField(default=0)),
                ('spool_full', models.BooleanField(default=False)),
            ],
            options={
                'verbose_name': 'worker',
                'ordering': ('host', 'worker', 'started_at'),
            },
        ),
    ]
