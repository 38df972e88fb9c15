"""The IAM actions that a deployment of AIDeer needs, by the type of the resource, and those that operating it needs."""

from dataclasses import dataclass

SAM_STACK = "aws-sam-cli-managed-default"
"""The SAM CLI's own stack, with the bucket for what is deployed."""


@dataclass(frozen=True)
class Rights:
    """Actions of one service on resources: ARNs after the partition. {stack} is the stack's name there, {id} a logical id."""

    service: str
    actions: str
    resources: tuple[str, ...] = ("*",)
    conditions: tuple[tuple[str, str], ...] = ()


FUNCTION = ("lambda:*:*:function:{stack}*",)
API = ("apigateway:*::/apis", "apigateway:*::/apis/*", "apigateway:*::/tags/*")
DOMAIN = ("apigateway:*::/domainnames", "apigateway:*::/domainnames/*")
ROLE = ("iam::*:role/{stack}*",)
BUCKET = ("s3:::{stack}*",)

FUNCTIONS = Rights(
    "lambda",
    "CreateFunction DeleteFunction GetFunction GetFunctionConfiguration UpdateFunctionCode UpdateFunctionConfiguration "
    "GetFunctionCodeSigningConfig GetRuntimeManagementConfig GetFunctionRecursionConfig PutFunctionConcurrency "
    "DeleteFunctionConcurrency ListTags TagResource UntagResource",
    FUNCTION,
)
APIS = Rights("apigateway", "GET POST PUT PATCH DELETE TagResource UntagResource", API)
CLOUDFRONT_TAGS = Rights("cloudfront", "TagResource UntagResource ListTagsForResource")

DOMAINS = Rights("apigateway", "GET POST PUT PATCH DELETE", DOMAIN)

ACTIONS: dict[str, tuple[Rights, ...]] = {
    "AWS::ApiGatewayV2::Api": (APIS,),
    "AWS::ApiGatewayV2::ApiMapping": (DOMAINS,),
    "AWS::ApiGatewayV2::DomainName": (DOMAINS,),
    "AWS::ApiGatewayV2::Stage": (
        APIS,
        Rights(  # access logs
            "logs",
            "CreateLogDelivery GetLogDelivery UpdateLogDelivery DeleteLogDelivery ListLogDeliveries PutResourcePolicy "
            "DescribeResourcePolicies DescribeLogGroups",
        ),
    ),
    "AWS::CloudFront::CachePolicy": (
        Rights("cloudfront", "CreateCachePolicy GetCachePolicy UpdateCachePolicy DeleteCachePolicy"),
    ),
    "AWS::CloudFront::Distribution": (
        Rights(
            "cloudfront",
            "CreateDistribution CreateDistributionWithTags GetDistribution GetDistributionConfig UpdateDistribution "
            "DeleteDistribution",
        ),
        CLOUDFRONT_TAGS,
        Rights("wafv2", "GetWebACL", ("wafv2:us-east-1:*:global/webacl/*",)),
    ),
    "AWS::CloudFront::Function": (
        Rights(
            "cloudfront", "CreateFunction DescribeFunction GetFunction UpdateFunction PublishFunction DeleteFunction"
        ),
        CLOUDFRONT_TAGS,
    ),
    "AWS::CloudFront::OriginRequestPolicy": (
        Rights(
            "cloudfront",
            "CreateOriginRequestPolicy GetOriginRequestPolicy UpdateOriginRequestPolicy DeleteOriginRequestPolicy",
        ),
    ),
    "AWS::CloudFront::ResponseHeadersPolicy": (
        Rights(
            "cloudfront",
            "CreateResponseHeadersPolicy GetResponseHeadersPolicy UpdateResponseHeadersPolicy DeleteResponseHeadersPolicy",
        ),
    ),
    "AWS::CloudWatch::Alarm": (
        Rights("cloudwatch", "DescribeAlarms"),
        Rights(
            "cloudwatch",
            "PutMetricAlarm DeleteAlarms SetAlarmState ListTagsForResource TagResource UntagResource",
            ("cloudwatch:*:*:alarm:{stack}*",),
        ),
    ),
    "AWS::CloudWatch::Dashboard": (
        Rights("cloudwatch", "PutDashboard GetDashboard DeleteDashboards", ("cloudwatch::*:dashboard/{stack}*",)),
    ),
    "AWS::DynamoDB::Table": (
        Rights(
            "dynamodb",
            "CreateTable DeleteTable DescribeTable UpdateTable DescribeTimeToLive UpdateTimeToLive DescribeContinuousBackups "
            "UpdateContinuousBackups DescribeContributorInsights DescribeKinesisStreamingDestination GetResourcePolicy "
            "ListTagsOfResource TagResource UntagResource",
            ("dynamodb:*:*:table/{stack}*",),
        ),
    ),
    "AWS::Events::Rule": (
        Rights(
            "events",
            "PutRule DeleteRule DescribeRule PutTargets RemoveTargets ListTargetsByRule ListTagsForResource TagResource "
            "UntagResource",
            ("events:*:*:rule/{stack}*",),
        ),
    ),
    "AWS::IAM::ManagedPolicy": (
        Rights(
            "iam",
            "CreatePolicy DeletePolicy GetPolicy CreatePolicyVersion DeletePolicyVersion GetPolicyVersion ListPolicyVersions "
            "TagPolicy UntagPolicy",
            ("iam::*:policy/{stack}*",),
        ),
    ),
    "AWS::IAM::Role": (
        Rights(
            "iam",
            "CreateRole DeleteRole GetRole UpdateRole UpdateAssumeRolePolicy PutRolePolicy GetRolePolicy DeleteRolePolicy "
            "AttachRolePolicy DetachRolePolicy ListRolePolicies ListAttachedRolePolicies TagRole UntagRole ListRoleTags",
            ROLE,
        ),
        Rights("iam", "PassRole", ROLE, (("iam:PassedToService", "lambda.amazonaws.com"),)),
    ),
    "AWS::Lambda::Alias": (Rights("lambda", "CreateAlias GetAlias UpdateAlias DeleteAlias", FUNCTION),),
    "AWS::Lambda::EventSourceMapping": (
        Rights(
            "lambda",
            "CreateEventSourceMapping GetEventSourceMapping UpdateEventSourceMapping DeleteEventSourceMapping "
            "ListEventSourceMappings",
        ),
    ),
    "AWS::Lambda::Function": (FUNCTIONS,),
    "AWS::Lambda::LayerVersion": (
        Rights(
            "lambda",
            "PublishLayerVersion GetLayerVersion DeleteLayerVersion",
            ("lambda:*:*:layer:*",),  # the web adapter's is another account's
        ),
    ),
    "AWS::Lambda::Permission": (Rights("lambda", "AddPermission RemovePermission GetPolicy", FUNCTION),),
    "AWS::Lambda::Url": (
        Rights(
            "lambda",
            "CreateFunctionUrlConfig GetFunctionUrlConfig UpdateFunctionUrlConfig DeleteFunctionUrlConfig",
            FUNCTION,
        ),
    ),
    "AWS::Lambda::Version": (
        Rights("lambda", "PublishVersion ListVersionsByFunction", FUNCTION),
        Rights(
            "lambda",
            "PutProvisionedConcurrencyConfig GetProvisionedConcurrencyConfig DeleteProvisionedConcurrencyConfig",
            FUNCTION,
        ),
    ),
    "AWS::Logs::LogGroup": (
        Rights("logs", "DescribeLogGroups"),
        Rights(
            "logs",
            "CreateLogGroup DeleteLogGroup PutRetentionPolicy DeleteRetentionPolicy ListTagsForResource TagResource "
            "UntagResource DescribeIndexPolicies GetDataProtectionPolicy",
            ("logs:*:*:log-group:{stack}*",),
        ),
    ),
    "AWS::Logs::MetricFilter": (
        Rights("logs", "PutMetricFilter DeleteMetricFilter DescribeMetricFilters", ("logs:*:*:log-group:{stack}*",)),
    ),
    "AWS::S3::Bucket": (
        Rights(
            "s3",
            "CreateBucket DeleteBucket ListBucket GetBucket* GetEncryptionConfiguration GetLifecycleConfiguration "
            "GetAccelerateConfiguration GetAnalyticsConfiguration GetIntelligentTieringConfiguration GetInventoryConfiguration "
            "GetMetricsConfiguration GetReplicationConfiguration PutBucketCORS PutBucketOwnershipControls "
            "PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration PutLifecycleConfiguration",
            BUCKET,
        ),
    ),
    "AWS::S3::BucketPolicy": (Rights("s3", "PutBucketPolicy DeleteBucketPolicy", BUCKET),),
    "AWS::SNS::Subscription": (
        Rights("sns", "Subscribe", ("sns:*:*:{stack}*",)),
        Rights("sns", "Unsubscribe GetSubscriptionAttributes SetSubscriptionAttributes"),
    ),
    "AWS::SNS::Topic": (
        Rights(
            "sns",
            "CreateTopic DeleteTopic GetTopicAttributes SetTopicAttributes GetDataProtectionPolicy ListSubscriptionsByTopic "
            "ListTagsForResource TagResource UntagResource",
            ("sns:*:*:{stack}*",),
        ),
    ),
    "AWS::SQS::Queue": (
        Rights(
            "sqs",
            "CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl SetQueueAttributes ListQueueTags TagQueue UntagQueue",
            ("sqs:*:*:{stack}*",),
        ),
    ),
    "AWS::SQS::QueuePolicy": (Rights("sqs", "SetQueueAttributes GetQueueAttributes", ("sqs:*:*:{stack}*",)),),
    "AWS::SecretsManager::Secret": (
        Rights("secretsmanager", "GetRandomPassword"),
        Rights(
            "secretsmanager",
            "CreateSecret DeleteSecret DescribeSecret UpdateSecret PutSecretValue GetResourcePolicy TagResource UntagResource",
            ("secretsmanager:*:*:secret:{id}-*",),
        ),
    ),
}
"""The actions that CloudFormation needs of its caller to create, change and delete a resource of each type."""

DEPLOYING = (
    Rights(
        "cloudformation",
        "CreateChangeSet DescribeChangeSet ExecuteChangeSet DeleteChangeSet ListChangeSets CreateStack UpdateStack DeleteStack "
        "DescribeStacks DescribeStackEvents DescribeStackResource DescribeStackResources ListStackResources GetTemplate "
        "GetTemplateSummary ContinueUpdateRollback TagResource UntagResource",
        ("cloudformation:*:*:stack/{stack}*/*", f"cloudformation:*:*:stack/{SAM_STACK}/*"),
    ),
    Rights("cloudformation", "CreateChangeSet", ("cloudformation:*:aws:transform/Serverless-2016-10-31",)),
    Rights("cloudformation", "GetTemplateSummary ValidateTemplate"),
    # CloudFormation puts this secret into CloudFront's header and the functions' variables. No other secret can be read.
    Rights("secretsmanager", "GetSecretValue", ("secretsmanager:*:*:secret:OriginSecret-*",)),
    Rights(
        "s3",
        "CreateBucket ListBucket ListBucketVersions GetBucket* GetEncryptionConfiguration PutBucketPolicy PutBucketTagging "
        "PutBucketVersioning PutBucketPublicAccessBlock PutEncryptionConfiguration GetObject GetObjectVersion PutObject",
        (f"s3:::{SAM_STACK}*",),
    ),
)
"""What `make deploy` and `make rollback` call beside the resources: CloudFormation, and the SAM CLI's bucket."""

OPERATING = (
    Rights("lambda", "GetAccountSettings"),
    Rights("iam", "GetAccountSummary SimulatePrincipalPolicy"),
    Rights("servicequotas", "GetServiceQuota ListRequestedServiceQuotaChangeHistoryByQuota"),
    Rights("lambda", "InvokeFunction", ("lambda:*:*:function:{stack}*-Operations*",)),
    Rights("lambda", "GetFunctionConcurrency", FUNCTION),
    Rights("logs", "DescribeLogStreams FilterLogEvents", ("logs:*:*:log-group:{stack}*",)),
    Rights("sqs", "SendMessage ReceiveMessage DeleteMessage ChangeMessageVisibility", ("sqs:*:*:{stack}*",)),
    Rights("dynamodb", "GetItem", ("dynamodb:*:*:table/{stack}*",)),
    Rights("s3", "ListBucketVersions DeleteObject DeleteObjectVersion", ("s3:::{stack}*",)),
)
"""What the checks before a deployment, and make admin, logs, dlq, test-alarm and destroy call."""
